"""Functions that read a tensor's memory where no dispatch mode sees it."""

from __future__ import annotations

import functools
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled, register_script_builtin, script_builtin
from opcount._torch.fake import FakeTensor
from opcount._torch.names import TENSOR_FILE
from opcount.dryrun.guard import active_guard
from opcount.dryrun.tensors import DryTensor


def _reading(name: str, *, shared: bool = False) -> Any:
    """Patch a method that reads a tensor's memory.

    Args:
        name: Name of the method.
        shared: Whether the program may write to the result; it then gets a copy.
    """
    original = getattr(Tensor, name)

    @functools.wraps(original)
    def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None:
            return original(tensor, *args, **kwargs)
        value, outside = guard.real(tensor, name)
        out = original(value, *args, **kwargs)
        return out.copy() if shared and outside else out

    return read


def _reading_arguments(owner: Any, name: str) -> Any:
    """Patch a function that reads the memory of its arguments."""
    original = getattr(owner, name)
    splits = name == "tensor_split"
    first = 1 if owner is Tensor or splits else 0  # only the shape of the tensor itself is used

    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None:
            return original(*args, **kwargs)
        read = partial(guard.readable, asked=name, by_memory=splits)
        return original(*args[:first], *map(read, args[first:]), **{key: read(value) for key, value in kwargs.items()})

    scripted = script_builtin(original)
    if scripted is not None:
        register_script_builtin(make, scripted)
    return make


def _capsule(original: Any) -> Any:
    """Patch a function that gives another library a tensor's memory: that library may write, so it gets a copy."""

    @functools.wraps(original)
    def export(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            value, outside = guard.real(tensor, "__dlpack__")
            tensor = _copy_of(value) if outside else value
        return original(tensor, *args, **kwargs)

    return export


def _copy_of(tensor: Tensor) -> Tensor:
    with dispatch_disabled(), autograd_disabled():
        copied = tensor.detach().clone()
        copied.requires_grad = tensor.requires_grad
        return copied


def _copying(original: Any) -> Any:
    """Patch ``__deepcopy__``, which copies memory; a tensor may have none, or have been written to since."""

    @functools.wraps(original)
    def deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Any:
        guard = active_guard()
        if guard is None or isinstance(tensor, FakeTensor):
            return original(tensor, memo)
        if tensor.is_meta or guard.computing.values.is_written(tensor):
            return DryTensor.__deepcopy__(tensor, memo)  # type: ignore[arg-type]
        return original(tensor, memo)

    return deepcopy


def _showing(original: Any) -> Any:
    @functools.wraps(original)
    def show(tensor: Tensor, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None or isinstance(tensor, FakeTensor) or tensor.is_meta:
            return original(tensor, **kwargs)
        value = guard.computing.known(tensor)
        if value is None:
            return f"{type(tensor).__name__}(..., size={tuple(tensor.shape)})"
        return original(value if guard.computing.values.is_written(tensor) else tensor, **kwargs)

    return show


def _numbering(original: Any) -> Any:
    """Patch ``item`` for real tensors; a fake one has a method of its own."""

    @functools.wraps(original)
    def item(tensor: Tensor) -> Any:
        guard, frame = active_guard(), sys._getframe(1)
        if guard is None or isinstance(tensor, FakeTensor) or frame.f_code.co_filename == TENSOR_FILE:  # to format it
            return original(tensor)
        number = guard.computing.numbers.of(tensor, frame)
        return original(tensor) if number is None else number

    return item


_EXPORTS: tuple[Any, ...] = tuple(owner for owner in (torch, torch.utils.dlpack) if hasattr(owner, "to_dlpack"))

_READING_ARGUMENTS: tuple[tuple[Any, str], ...] = (
    (torch, "tensor"), (torch, "as_tensor"), (torch, "asarray"), (torch, "tensor_split"),
    (Tensor, "new_tensor"), (Tensor, "tensor_split"),
)  # fmt: skip

READ_PATCHES: dict[tuple[Any, str], Any] = {
    **{(Tensor, name): _reading(name) for name in ("tolist", "data_ptr", "__reduce_ex__")},
    (Tensor, "__dlpack__"): _capsule(Tensor.__dlpack__),
    **{(owner, "to_dlpack"): _capsule(owner.to_dlpack) for owner in _EXPORTS},
    (Tensor, "numpy"): _reading("numpy", shared=True),
    **{(owner, name): _reading_arguments(owner, name) for owner, name in _READING_ARGUMENTS},
    (Tensor, "item"): _numbering(Tensor.item),
    (Tensor, "__repr__"): _showing(Tensor.__repr__),
    (Tensor, "__deepcopy__"): _copying(Tensor.__deepcopy__),
}
"""By class or module, and name."""
