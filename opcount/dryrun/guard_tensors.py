"""Methods that change a tensor or its memory where no dispatch mode sees it."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor, TypedStorage, UntypedStorage

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.functorch import in_transform, is_batched, is_wrapped
from opcount._torch.names import MODULE_FILE, PARAMETER_FILE
from opcount._torch.tensors import untyped_memory
from opcount.dryrun.guard import SHARE, Guard, active_guard, ask_before
from opcount.dryrun.tensors import DryTensor


class _Attribute:
    """Descriptor in place of an attribute in C, which tells the guard before the attribute changes."""

    __slots__ = ("_data", "_get", "_name", "_original")

    def __init__(self, name: str, *, data: bool = False) -> None:
        self._name = name
        self._data = data
        self._original: Any = getattr(Tensor, name)
        self._get = self._original.__get__

    def __get__(self, tensor: Any, _owner: type | None = None) -> Any:
        return self._original if tensor is None else self._get(tensor)

    def __set__(self, tensor: Tensor, value: object) -> None:
        if self._data and isinstance(value, Tensor) and _of_inner_transform(value, tensor):
            raise RuntimeError("mutating directly with `.data` inside functorch transform is not allowed.")
        self._note(tensor)
        self._original.__set__(tensor, value)

    def __delete__(self, tensor: Tensor) -> None:
        self._note(tensor)
        self._original.__delete__(tensor)

    def _note(self, tensor: Tensor) -> None:
        if self._data and isinstance(tensor, DryTensor):
            tensor.made_as = None
        guard = active_guard()
        if guard is not None:
            guard.leaf(tensor, self._name, data=self._data)


def _of_inner_transform(value: Tensor, tensor: Tensor) -> bool:
    """Return True if a gradient transform wraps the data alone: PyTorch checks for the opposite, and crashes here."""
    return active_guard() is not None and is_wrapped(value) and not (is_batched(value) or is_wrapped(tensor))


def _remember(name: str) -> Any:
    return ask_before(lambda guard, tensor, *_, **__: guard.leaf(tensor, name))


def _requiring(original: Any) -> Any:
    """Patch ``requires_grad_``: ``nn.Parameter`` calls it on fake tensors alone, and a transform refuses the call."""

    @functools.wraps(original)
    def requires(tensor: Tensor, requires_grad: bool = True) -> Any:  # noqa: FBT001, FBT002
        if in_transform() and sys._getframe(1).f_code.co_filename == PARAMETER_FILE and active_guard() is not None:
            tensor.requires_grad = requires_grad
            return tensor
        return remembered(tensor, requires_grad)

    remembered = _remember("requires_grad_")(original)
    return requires


def _refuse_memory(guard: Guard, tensor: Tensor, *_args: object) -> None:
    guard.memory(tensor)


def _changing(name: str) -> Any:
    """Patch a method that changes a storage: PyTorch writes to it by operators, which a dispatch mode would see."""
    original = getattr(UntypedStorage, name)

    @functools.wraps(original)
    def change(storage: UntypedStorage, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None or not guard.storage(storage, name):
            return original(storage, *args, **kwargs)
        with dispatch_disabled(), autograd_disabled():
            return original(storage, *args, **kwargs)

    return change


def _making(original: Any) -> Any:
    """Patch the constructor of storages, which PyTorch calls for new ones alone."""

    @functools.wraps(original)
    def make(storage: UntypedStorage, *args: Any, **kwargs: Any) -> None:
        original(storage, *args, **kwargs)
        guard = active_guard()
        if guard is not None and not str(sys._getframe(1).f_globals.get("__name__")).startswith("opcount."):
            guard.made_storage(storage)

    return make


def _ask_about_typed(name: str) -> Any:
    return ask_before(lambda guard, storage, *_, **__: guard.storage(untyped_memory(storage), name))


def _swapping(original: Any) -> Any:
    @functools.wraps(original)
    def swap(first: Tensor, second: Tensor) -> None:
        guard = active_guard()
        casts = sys._getframe(1).f_code.co_filename == MODULE_FILE
        if guard is None or not guard.swap(first, second, casts=casts):
            original(first, second)

    return swap


_REMEMBERED = ("register_hook", "register_post_accumulate_grad_hook")
"""Methods that change the tensor object itself."""

_WRITE_MEMORY = ("apply_", "map_", "map2_")
"""Methods that write to memory and bypass the dispatcher."""

TENSOR_PATCHES: dict[tuple[Any, str], Any] = {
    (Tensor, "data"): _Attribute("data", data=True),
    (Tensor, "grad"): _Attribute("grad"),
    (Tensor, "requires_grad"): _Attribute("requires_grad"),
    (Tensor, "requires_grad_"): _requiring(Tensor.requires_grad_),
    **{(Tensor, name): _remember(name)(getattr(Tensor, name)) for name in _REMEMBERED},
    **{(Tensor, name): ask_before(_refuse_memory)(getattr(Tensor, name)) for name in _WRITE_MEMORY},
    **{(owner, "detach_"): ask_before(Guard.detach)(owner.detach_) for owner in (Tensor, torch)},
    **{(UntypedStorage, name): _changing(name) for name in ("resize_", "__setitem__", "copy_", "fill_", SHARE)},
    (UntypedStorage, "__init__"): _making(UntypedStorage.__init__),
    **{(TypedStorage, name): _ask_about_typed(name)(getattr(TypedStorage, name)) for name in ("__setitem__", "fill_")},
}
"""By class and name."""

if hasattr(torch.utils, "swap_tensors"):  # from PyTorch 2.3 on
    TENSOR_PATCHES[torch.utils, "swap_tensors"] = _swapping(torch.utils.swap_tensors)
