"""Build a model on the meta device, if that gives the same model as another device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from opcount.dryrun.imports import imports_undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable


def build_on_meta(make: Callable[[], Any]) -> Any:
    """Call what builds a model, without allocating its weights.

    A module that is imported meanwhile is imported as always: the tensors that it makes for itself are real.

    Raises:
        NotImplementedError: A tensor was made that has no equal on the meta device.
    """
    layouts = _Layouts()
    with imports_undisturbed(), torch.device("meta"), layouts:
        built = make()
    if layouts.odd:
        raise NotImplementedError(
            f"build_on_meta: {layouts.odd} makes another tensor on the meta device. Build it real."
        )
    return built


class _Layouts(TorchFunctionMode):
    """Find tensors that differ on the meta device: sparse ones store no elements, quantized ones become floats."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = ""

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            name = getattr(func, "__name__", "")
            if out.layout is not torch.strided or "quantize" in name:
                self.odd = name or str(func)
        return out
