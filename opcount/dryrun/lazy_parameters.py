"""Materialize lazy parameters and buffers in place, so that they stay the objects that the program holds.

An `UninitializedParameter` becomes a `Parameter` in place: it gets other memory and another class. In a dry run it gets
real memory with unknown values, to which nothing is written. So forward uses the objects that an optimizer, another
module or the inputs of ``torch.autograd.grad`` hold.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import (  # type: ignore[attr-defined]
    UninitializedBuffer,
    UninitializedParameter,
    UninitializedTensorMixin,
    is_lazy,
)

from opcount._torch.dispatch import dispatch_disabled, subclass_functions_disabled
from opcount._torch.functorch import in_transform
from opcount.dryrun.guard import active_guard
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_materialize = UninitializedTensorMixin.materialize
_function: Callable[..., Any] = vars(UninitializedTensorMixin)["__torch_function__"].__func__

_SEEN = {
    Tensor.half, Tensor.float, Tensor.double, Tensor.char, Tensor.short, Tensor.int, Tensor.long, Tensor.cuda,
    Tensor.cpu, Tensor.to, Tensor.copy_,
}  # fmt: skip
"""Functions on uninitialized tensors that dispatch modes see."""


@functools.wraps(_materialize)
def _materialize_in_place(tensor: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
    guard = active_guard()
    if guard is None:
        _materialize(tensor, shape, device, dtype)
        return
    empty = torch.empty(shape, device=device or tensor.data.device, dtype=dtype or tensor.data.dtype)
    guard.leaf(tensor, "materialize", data=True)
    with dispatch_disabled():
        try:
            _materialize(tensor, empty.shape, empty.device, empty.dtype)
        except RuntimeError as error:
            if in_transform():  # where a real run ends the process
                raise
            asked = f"{type(tensor).__name__}.materialize"
            raise guard.refusals.refuse(asked, f"finds no memory ({error})") from error
    guard.made(tensor)


def _making(original: Callable[..., Any]) -> Any:
    """Patch the constructor of uninitialized tensors, which gives a real tensor another class."""

    @functools.wraps(original)
    def make(cls: Any, requires_grad: Any = None, device: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
        if requires_grad is not None:
            kwargs["requires_grad"] = requires_grad
        if active_guard() is None:
            return original(cls, device=device, dtype=dtype, **kwargs)
        empty = torch.empty(0, device=device, dtype=dtype)
        with dispatch_disabled():
            return original(cls, device=empty.device, dtype=empty.dtype, **kwargs)

    return staticmethod(make)


def _on_no_elements(cls: Any, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
    """Run a function on an uninitialized tensor for real: it has no elements."""
    if active_guard() is None:
        return _function(cls, func, types, args, kwargs)
    if func in _SEEN:
        func(*map(_plain, args), **{name: _plain(value) for name, value in (kwargs or {}).items()})
        if func is Tensor.copy_:
            return args[0]
    with dispatch_disabled():
        return _function(cls, func, types, args, kwargs)


def _plain(value: Any) -> Any:
    """Return the plain tensor in an uninitialized one, for dispatch modes."""
    if not is_lazy(value):
        return value
    with subclass_functions_disabled():
        return value.data


_PATCHES = Patches(
    {
        (UninitializedTensorMixin, "materialize"): _materialize_in_place,
        (UninitializedTensorMixin, "__torch_function__"): classmethod(_on_no_elements),
        **{(kind, "__new__"): _making(kind.__new__) for kind in (UninitializedParameter, UninitializedBuffer)},
    }
)


@contextmanager
def lazy_parameters_in_place() -> Iterator[None]:
    """Monkeypatch construction, casts and materialization of uninitialized tensors."""
    with Undo() as undo:
        _PATCHES.use(undo)
        yield
