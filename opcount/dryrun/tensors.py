"""The fake tensors of a dry run: asked for what they do not have, they say so."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Callable


class DryTensor(FakeTensor):
    """A fake tensor that may have a value.

    Attributes:
        known: Whether the dry run may know its value.
    """

    known = False

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value as an array, if it is known."""
        return _value(self, "numpy").numpy(*args, **kwargs)

    def __array__(self, dtype: Any = None, *_args: Any, **_kwargs: Any) -> Any:
        array = _value(self, "__array__").numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def tolist(self) -> Any:
        """Return the value as numbers in lists, if it is known."""
        return _value(self, "tolist").tolist()

    def data_ptr(self) -> int:
        """Return the address of the value, if it is known."""
        return _value(self, "data_ptr").data_ptr()

    def __format__(self, spec: str) -> str:
        return format(_value(self, "__format__") if spec else self, spec) if spec else repr(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _value(self, "__reduce_ex__").__reduce_ex__(protocol)

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        return _value(self, "__dlpack__").__dlpack__(*args, **kwargs)

    def __copy__(self) -> Any:
        return _with_attributes(self, self.detach(), vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        with torch.no_grad():
            copied = memo[id(self)] = self.clone()
        if self.grad is not None:
            copied.grad = copy.deepcopy(self.grad, memo)
        own = {name: value for name, value in vars(self).items() if name not in vars(copied)}
        return _with_attributes(self, copied, copy.deepcopy(own, memo))


def _with_attributes(original: Tensor, copied: Tensor, attributes: dict[str, Any]) -> Tensor:
    for name, value in attributes.items():
        if name not in vars(copied):
            vars(copied)[name] = value
    if getattr(original, "_is_param", False):
        vars(copied)["_is_param"] = True
    return copied.requires_grad_(original.requires_grad)


def _value(tensor: DryTensor, asked: str) -> Tensor:
    find: Callable[[DryTensor, str], Tensor] | None = getattr(tensor.fake_mode, "value_of", None)
    if find is None:
        raise RuntimeError(f"FakeTensor.{asked}: the tensor is of a dry run that is over, and has no value.")
    return find(tensor, asked)


@functools.lru_cache(256)
def stands_for_data(kind: Any) -> bool:
    """Tell whether a class of tensors leaves operators to PyTorch: its objects are data, and no more."""
    return getattr(kind, "__torch_dispatch__", None) is Tensor.__torch_dispatch__


@functools.lru_cache(256)
def run_operators(kinds: tuple[Any, ...]) -> bool:
    """Tell whether one of some classes of tensors runs operators itself; fake ones stand for one tensor each."""
    return any(not stands_for_data(kind) and not issubclass(kind, FakeTensor) for kind in kinds)
