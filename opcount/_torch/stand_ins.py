"""Public functions that not every version has, each with what stands in."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.lookup import VERSION, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

default_device: Callable[[], torch.device] = getattr(
    torch, "get_default_device", lambda: torch.empty(0).device
)  # since 2.3

_OF_DEVICES = hasattr(torch, "get_autocast_dtype")  # since 2.4

CASTS_KEEP_GRADIENTS: bool = VERSION > (2, 10)
"""True if a weight that needs gradients still does once autocast has cast it without them: in 2.12, not in 2.10."""


_NO_SIZE = 2**62
"""Bytes that no machine has: memory of that size is refused, and the storage stays as it is."""


def is_own_memory(storage: torch.UntypedStorage) -> bool:
    """Return whether PyTorch may resize a storage, so that no NumPy array has ever shared it."""
    if hasattr(storage, "resizable"):  # since 2.3
        return storage.resizable()
    if storage.device.type != "cpu":
        return True
    try:
        storage.resize_(_NO_SIZE)
    except RuntimeError as error:
        return "not resizable" not in str(error)  # that is asked before memory is
    return True


def check_classes(classes: torch.Tensor) -> None:
    """Run what ``one_hot`` runs to check its input: one operator since 2.13, two before."""
    if VERSION < (2, 13):
        torch.min(classes)
        torch.max(classes)
    else:
        torch.aminmax(classes)


def is_autocast_enabled(device: str) -> bool:
    """Return whether autocast is on for a type of device."""
    if _OF_DEVICES:
        return torch.is_autocast_enabled(device)
    return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()


def autocast_dtype(device: str) -> torch.dtype:
    """Return the dtype of autocast for a type of device."""
    if _OF_DEVICES:
        return torch.get_autocast_dtype(device)
    return torch.get_autocast_cpu_dtype() if device == "cpu" else torch.get_autocast_gpu_dtype()


def compiled_eagerly() -> AbstractContextManager[object]:
    """Run compiled functions eagerly while the block runs; before 2.6 a counter around it does."""
    return torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else nullcontext()


class _FastPathSwitch:
    """The switch of the fast paths of attention before 2.3: these ask whether an operand overrides functions."""

    def __init__(self) -> None:
        self.enabled: Any = True
        self._original = torch.overrides.has_torch_function

    def get(self) -> Any:
        return self.enabled

    def set(self, enabled: Any) -> None:
        self.enabled = enabled
        torch.overrides.has_torch_function = self._original if enabled else self._overrides  # type: ignore[assignment]

    def _overrides(self, operands: Any) -> bool:
        asking = sys._getframe(1).f_globals["__name__"]
        return asking in {"torch.nn.modules.activation", "torch.nn.modules.transformer"} or self._original(operands)


_SWITCH = _FastPathSwitch()
fast_path_enabled: Callable[[], Any] = find("backends.mha.get_fastpath_enabled", _SWITCH.get)  # since 2.3
"""Returns whether attention and encoders may take their fast paths."""
set_fast_path_enabled: Callable[[Any], None] = find("backends.mha.set_fastpath_enabled", _SWITCH.set)
