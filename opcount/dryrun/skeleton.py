"""Copies of models whose tensors are fake: they are run in place of the model, which stays untouched."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from opcount._torch.fake import FakeTensor
from opcount.dryrun.fakes import Fakes, is_plain
from opcount.dryrun.values import LIMIT, VALUE
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

    Copy = Callable[[Any], Any]

Model = TypeVar("Model", bound=nn.Module)

_SHARED = (
    type, types.ModuleType, types.BuiltinFunctionType, types.CodeType, torch.dtype, torch.device, torch.Generator,
    str, bytes, int, float, complex, bool, type(None), type(Ellipsis), type(NotImplemented), range,
)  # fmt: skip
"""Types of objects that a copy shares with the original: nothing in them changes, or nothing in them can be copied."""

_SHARED_KINDS = frozenset(_SHARED)
_CONTAINERS = {dict, OrderedDict, list, set}


def skeleton(model: Model) -> Model:
    """Return a deep copy of a model whose tensors are fake: it costs no memory, and to run it leaves the model alone.

    Tied parameters stay tied; hooks, bound methods and closures that hold a part of the model hold its copy. A tensor
    that has no plain fake one (sparse, quantized, of a class of its own) is shared with the model: a dry run writes
    to no real tensor. So are objects that cannot be copied, such as locks and open files.

    Args:
        model: On any device; parameters on the ``meta`` device are taken as being on the CPU.

    Returns:
        What ``OpCounter(skeleton, dry_run=True)`` counts.

    Raises:
        DryRunError: A part of the model has no copy without its data, such as a ScriptModule.
    """
    copied: Model = _Copier(Fakes(FakeTensor)).copy(model)
    return copied


class Disposable(NamedTuple):
    """A skeleton for one dry run, which takes its fake tensors for its own and leaves it as it happens to end.

    Attributes:
        model: The skeleton.
        fakes: The factory of its tensors.
        shared: What it shares with the model, or may share: in that a dry run is to put everything back.
        values: Its tensors that stand for small ones, and these.
        is_plain: Whether all of its tensors are of that factory.
    """

    model: nn.Module
    fakes: Fakes
    shared: list[Any]
    values: list[tuple[Tensor, Tensor]]
    is_plain: bool


def disposable_skeleton(model: nn.Module) -> Disposable:
    """Return a skeleton of a model for one dry run; see `skeleton`."""
    fakes = Fakes()
    copier = _Copier(fakes, borrows=True)
    copied: nn.Module = copier.copy(model)
    if not copier.is_plain:
        return Disposable(skeleton(model), Fakes(), [], [], is_plain=False)
    return Disposable(copied, fakes, copier.shared, copier.values, is_plain=True)


class _Copier(TorchFunctionMode):
    """Copies objects; it sees the tensors that classes with a way of their own to be copied ask to be copied.

    Args:
        fakes: Makes tensors.
        borrows: Whether the values of small tensors are those of the originals, and not copies.

    Attributes:
        shared: What is not copied, or copied by a class in its own way.
        values: Fake tensors, and the small ones that they stand for.
        is_plain: Whether all tensors became fake, and none of them was copied by a class in its own way.
    """

    def __init__(self, fakes: Fakes, *, borrows: bool = False) -> None:
        super().__init__()
        self._fakes = fakes
        self._borrows = borrows
        self._memo: dict[int, Any] = {}
        self._originals: list[Any] = []
        self._ways: dict[type, Callable[[_Copier, Any], Any]] = {}
        self.shared: list[Any] = []
        self.values: list[tuple[Tensor, Tensor]] = []
        self.is_plain = True

    def copy(self, value: Any) -> Any:
        """Return the copy of an object, the same one each time."""
        kind = type(value)
        if kind in _SHARED_KINDS:
            return value
        known = self._memo.get(id(value), self)
        if known is not self:
            return known
        way = self._ways.get(kind)
        if way is None:
            way = self._ways[kind] = _way_of(kind)
        if way is _share:
            return self.share(value)
        self._originals.append(value)  # its id must not be another's
        return self.note(value, way(self, value))

    def note(self, value: Any, copied: Any) -> Any:
        """Remember the copy of an object, which it may have a part in."""
        return self._memo.setdefault(id(value), copied)

    def share(self, value: Any) -> Any:
        """Return an object, or a copy in which there may be something of it, and remember that."""
        self.shared.append(value)
        return value

    def empty(self, container: Any) -> Any:
        """Return the copy of an empty container of Python's that an original holds, the same one each time."""
        known = self._memo.get(id(container))
        if known is None:
            known = self._memo[id(container)] = type(container)()
        return known

    def tensor(self, tensor: Tensor) -> Tensor:
        """Return a fake tensor in the place of a real one."""
        if is_lazy(tensor) or not is_plain(tensor):
            self.is_plain = False
            return copy.deepcopy(tensor) if is_lazy(tensor) else tensor
        fake = self._fakes.like(tensor)
        if not isinstance(tensor, FakeTensor) and not tensor.is_meta and tensor.numel() <= LIMIT:
            value = tensor.detach()
            vars(fake)[VALUE] = value if self._borrows else value.clone()
            self.values.append((fake, value))
        attributes = vars(tensor)
        if attributes:
            new = {name: self.copy(value) for name, value in attributes.items() if name not in vars(fake)}
            vars(fake).update(new)
        return fake

    def by_own_way(self, value: Any) -> Any:
        """Copy an object as Python does; share it if Python cannot."""
        try:
            with self:
                return self.share(copy.deepcopy(value, self._memo))
        except DryRunError:
            raise
        except Exception:  # noqa: BLE001  (locks, files, generators, process groups: each says so in its own way)
            return self.share(value)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ or (func is Tensor.clone and not self._is_fake(args[0])):
            self.is_plain = False
            return self.copy(args[0])
        return func(*args, **(kwargs or {}))

    def _is_fake(self, tensor: Tensor) -> bool:
        return getattr(tensor, "fake_mode", None) is self._fakes.mode


def _copy_module(copier: _Copier, module: nn.Module) -> Any:
    if isinstance(module, torch.jit.ScriptModule):
        raise DryRunError(
            f"dry run: expected a model in Python, got a {type(module).__name__} in it: it cannot be copied without "
            f"its data. Count a real run instead (dry_run=False)."
        )
    return copier.by_own_way(module) if hasattr(type(module), "__deepcopy__") else _copy_attributes(copier, module)


def _copy_object(copier: _Copier, value: Any) -> Any:
    try:
        return copier.by_own_way(value) if _has_own_way(value) else _copy_attributes(copier, value)
    except TypeError:  # of a class in C, which has more than attributes
        return copier.by_own_way(value)


def _has_own_way(value: Any) -> bool:
    """Return whether an object is more than its attributes: its class says how it is copied, pickled or made."""
    kind = type(value)
    return hasattr(kind, "__deepcopy__") or any(
        getattr(kind, name, None) is not getattr(object, name, None)
        for name in ("__new__", "__reduce__", "__reduce_ex__", "__getstate__")
    )


def _copy_attributes(copier: _Copier, value: Any) -> Any:
    kind = type(value)
    copied = copier.note(value, object.__new__(kind))
    attributes = getattr(value, "__dict__", None)
    if attributes:
        new = vars(copied)
        for name, attribute in attributes.items():
            kept = type(attribute)
            if kept in _SHARED_KINDS:
                new[name] = attribute
            elif kept in _CONTAINERS and not attribute:
                new[name] = copier.empty(attribute)
            else:
                new[name] = copier.copy(attribute)
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                object.__setattr__(copied, name, copier.copy(getattr(value, name)))
    return copied


def _copy_list(copier: _Copier, value: list[Any]) -> Any:
    if type(value) is not list:
        return copier.by_own_way(value)
    copied = copier.note(value, [])
    copied.extend(map(copier.copy, value))
    return copied


def _copy_dict(copier: _Copier, value: dict[Any, Any]) -> Any:
    kind = type(value)
    if kind is dict or kind is OrderedDict:
        copied = copier.note(value, kind())
    elif kind.__module__ not in ("builtins", "collections"):
        return copier.by_own_way(value)
    else:
        copied = copier.note(value, copy.copy(value))
        copied.clear()
    for name, item in value.items():
        copied[name if type(name) is str else copier.copy(name)] = copier.copy(item)
    return copied


def _copy_tuple(copier: _Copier, value: tuple[Any, ...]) -> Any:
    items = list(map(copier.copy, value))
    if type(value) is tuple:
        return tuple(items)
    return value._make(items) if hasattr(value, "_make") else copier.by_own_way(value)


def _copy_set(copier: _Copier, value: Any) -> Any:
    return type(value)(map(copier.copy, value))


def _copy_partial(copier: _Copier, value: functools.partial[Any]) -> Any:
    return type(value)(copier.copy(value.func), *map(copier.copy, value.args), **copier.copy(value.keywords))


def _copy_method(copier: _Copier, value: types.MethodType) -> Any:
    return types.MethodType(copier.copy(value.__func__), copier.copy(value.__self__))


def _copy_function(copier: _Copier, value: types.FunctionType) -> Any:
    """Copy a function that closes over a part of the model, or over something that may hold one."""
    if not value.__closure__ or all(_is_shared(cell) for cell in value.__closure__):
        return copier.share(value)
    cells = tuple(types.CellType() for _ in value.__closure__)
    copied = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
    copier.note(value, copied)
    copied.__kwdefaults__, copied.__qualname__ = value.__kwdefaults__, value.__qualname__
    vars(copied).update({name: copier.copy(item) for name, item in vars(value).items()})
    for old, new in zip(value.__closure__, cells, strict=True):
        if not _is_empty(old):
            new.cell_contents = copier.copy(old.cell_contents)
    return copied


def _is_empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def _share(_copier: _Copier, value: Any) -> Any:
    return value


def _way_of(kind: type) -> Callable[[_Copier, Any], Any]:
    """Return how objects of a class are copied."""
    if issubclass(kind, _SHARED):
        return _share
    return next((way for known, way in _WAYS if issubclass(kind, known)), _copy_object)


def _is_shared(cell: types.CellType) -> bool:
    return _is_empty(cell) or isinstance(cell.cell_contents, _SHARED)


def _copy_reference(copier: _Copier, value: weakref.ref[Any]) -> Any:
    target = value()
    return weakref.ref(copier.copy(target)) if isinstance(target, (nn.Module, Tensor)) else copier.share(value)


_WAYS: tuple[tuple[Any, Callable[[_Copier, Any], Any]], ...] = (
    (Tensor, lambda copier, value: copier.tensor(value)),
    (nn.Module, _copy_module),
    (dict, _copy_dict),
    (list, _copy_list),
    (tuple, _copy_tuple),
    ((set, frozenset), _copy_set),
    (types.FunctionType, _copy_function),
    (types.MethodType, _copy_method),
    (functools.partial, _copy_partial),
    (weakref.ref, _copy_reference),
)
