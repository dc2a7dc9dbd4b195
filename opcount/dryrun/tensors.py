"""Fake tensors of a dry run, which may have a value, and refuse to return an unknown one."""

from __future__ import annotations

import copy
import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.dispatch import disabled_modes, fake_mode, subclass_functions_disabled
from opcount._torch.fake import FakeTensor
from opcount._torch.functorch import is_wrapped
from opcount._torch.tensors import base_of, is_view, mark_parameter
from opcount.dryrun.comparisons import unreflected
from opcount.dryrun.fake_mode import DryMode
from opcount.errors import DryRunError
from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opcount.dryrun.refusals import Refusals


class DryTensor(FakeTensor):
    """A fake tensor that may have a value.

    Attributes:
        known: Whether the dry run may know its value.
        made_as: Its ``id``, and size, stride, dtype, device and offset as it was made; None: they are to be asked for.
            Programs may copy the attributes of one tensor to another.
    """

    __module__ = Tensor.__module__  # by which opt_einsum, autoray and others find the functions that suit an array

    known = False
    made_as: tuple[int, tuple[Any, ...]] | None = None

    __lt__, __le__, __gt__, __ge__ = map(unreflected, ("__lt__", "__le__", "__gt__", "__ge__"))

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value as an array, if it is known."""
        return _value(self, "numpy").numpy(*args, **kwargs)

    def __array__(self, dtype: Any = None, *_args: Any, **_kwargs: Any) -> Any:
        array = _value(self, "__array__").numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def item(self) -> Any:
        """Return the value as a number, which may be an unknown one."""
        find = getattr(_mode(self), "number_of", None)
        number = None if find is None else find(self, sys._getframe(1))
        return super().item() if number is None else number

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

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Run operators that PyTorch dispatches without modes; refuse as the mode does."""
        for tensor in tensors((*args, *(kwargs or {}).values())):
            if isinstance(tensor, DryTensor):
                tensor.made_as = None
        try:
            return super().__torch_dispatch__(func, types, args, kwargs or {})
        except DryRunError:  # no local variable holds it: that would be a cycle with this frame, and so with tensors
            raise
        except Exception as error:  # noqa: BLE001  (it is raised again)
            refusals = next((_refusals(value) for value in args if isinstance(value, DryTensor)), None)
            explained = error if refusals is None else refusals.explain(func, error)
            try:
                if explained is error:
                    raise
                raise explained from error
            finally:
                del explained  # as above

    def as_subclass(self, cls: Any) -> Any:
        """Return a view with the class that `dry_class` finds for ``cls``."""
        if is_wrapped(self):
            with subclass_functions_disabled():
                return _view_as(self, plain_class(cls))
        kind = dry_class(cls)
        if kind is None:
            reason = f"would make a {cls.__name__}, which no fake tensor can stand for"
            raise _refusals(self).refuse("Tensor.as_subclass", reason)
        with disabled_modes(), subclass_functions_disabled():  # as PyTorch does
            view = torch.ops.aten.alias.default(self)
        view.__class__ = kind
        view.known = self.known
        if cls in _PARAMETERS:
            mark_parameter(view)
        return view

    def __copy__(self) -> Any:
        return _with_attributes(self, self.detach(), vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            return Tensor.__deepcopy__(self, memo)  # type: ignore[no-untyped-call]  # raises PyTorch's own error
        with torch.no_grad():
            copied = memo[id(self)] = self.clone()
        if self.grad is not None:
            copied.grad = copy.deepcopy(self.grad, memo)
        own = {name: value for name, value in vars(self).items() if name not in vars(copied)}
        return _with_attributes(self, copied, copy.deepcopy(own, memo))


class DryZeros(DryTensor):
    """Fake tensor that PyTorch knows to be zero, as forward-mode derivatives often are.

    It has a class of its own because results for other tensors are not valid for it.
    """

    __module__ = Tensor.__module__


class _Subclassed(DryTensor):
    """Base class of fake tensors with a class of the program, in place of `Tensor`."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Convert results to the class."""
        return _function(cls, func, types, args, kwargs)


_function = vars(Tensor)["__torch_function__"].__func__
_view_as = Tensor.as_subclass

_PARAMETERS = {torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.nn.Parameter)}


def dry_class(cls: Any) -> type[DryTensor] | None:
    """Return the class of fake tensors for a class of real ones, or None if that runs operators itself."""
    if cls is Tensor or cls in _PARAMETERS:
        return DryTensor
    if issubclass(cls, DryTensor):
        found: type[DryTensor] = cls
        return found
    if not stands_for_data(cls):
        return None
    known: type[DryTensor]
    for known in cls.__subclasses__():
        if known.__bases__ == (cls, _Subclassed):
            return known
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    try:
        made: type[DryTensor] = type(cls)(cls.__name__, (cls, _Subclassed), names)
    except Exception:  # noqa: BLE001  (whatever a class of the program's does when it is inherited from)
        return None
    return made


def plain_class(cls: Any) -> Any:
    """Return the class of the program that a class of fake tensors stands for: a wrapper of a transform is not fake."""
    if not issubclass(cls, DryTensor):
        return cls
    return cls.__bases__[0] if issubclass(cls, _Subclassed) else Tensor


@contextmanager
def without_classes(values: Iterable[Any]) -> Iterator[bool]:
    """Remove the program's classes from fake tensors inside the block; yield whether there were any."""
    found: list[tuple[Any, type[DryTensor]]] = [
        (value, type(value)) for value in values if isinstance(value, _Subclassed)
    ]
    try:
        for tensor, _ in found:
            tensor.__class__ = DryTensor
        yield bool(found)
    finally:
        for tensor, kind in found:
            tensor.__class__ = kind


def _with_attributes(original: Tensor, copied: Tensor, attributes: dict[str, Any]) -> Tensor:
    for name, value in attributes.items():
        if name not in vars(copied):
            vars(copied)[name] = value
    if getattr(original, "_is_param", False):
        vars(copied)["_is_param"] = True
    return copied.requires_grad_() if original.requires_grad else copied  # not inside of a function transform


def _mode(tensor: DryTensor) -> DryMode:
    """Return the mode of the active dry run; a tensor may be of an earlier one."""
    active = fake_mode()
    return active if isinstance(active, DryMode) else tensor.fake_mode  # type: ignore[return-value]


def _refusals(tensor: DryTensor) -> Refusals:
    return _mode(tensor).refusals  # type: ignore[attr-defined, no-any-return]


def _value(tensor: DryTensor, asked: str) -> Tensor:
    find: Callable[[DryTensor, str], Tensor] | None = getattr(_mode(tensor), "value_of", None)
    if find is None:
        raise RuntimeError(f"FakeTensor.{asked}: the tensor is of a model for a dry run, and has no value.")
    return find(tensor, asked)


def is_of_a_parameter(tensor: Tensor) -> bool:
    """Return whether a tensor is a parameter or a view of one."""
    base = base_of(tensor) if is_view(tensor) else tensor
    return isinstance(base, torch.nn.Parameter) or getattr(base, "_is_param", False)


@functools.lru_cache(256)
def stands_for_data(kind: Any) -> bool:
    """Return whether a class of tensors leaves operators to PyTorch."""
    return getattr(kind, "__torch_dispatch__", None) is Tensor.__torch_dispatch__


@functools.lru_cache(256)
def run_operators(kinds: tuple[Any, ...]) -> bool:
    """Return whether one of the classes, other than fake tensors, runs operators itself."""
    return any(not stands_for_data(kind) and not issubclass(kind, FakeTensor) for kind in kinds)


def wraps_fakes(tensor: Tensor) -> bool:
    """Return whether a tensor subclass, such as DTensor, wraps tensors of a dry run, and so was made inside."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return False
    return any(isinstance(getattr(tensor, name, None), DryTensor) for name in tensor.__tensor_flatten__()[0])
