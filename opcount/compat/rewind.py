"""What a model's modules hold, to be put back when an attempt to run them is given up."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from logging import Logger
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIMITIVE = {int, float, bool, str, type(None)}
_ATOMS = (int, float, str, bytes, type(None), Tensor, nn.Module, type)
_NOT_OF_THE_MODEL = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, Logger)
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)
"""A subclass of one may answer with something else than it holds: it is known by its attributes."""

_LONG = 1000
"""Items of a table that is kept but not looked into: a vocabulary, not a cache."""

_OF_EVERY_MODULE = vars(nn.Module()).keys()
_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
"""Of these, what a forward may change."""


class Snapshot:
    """The attributes of a model's modules, and the contents of what hangs on these, other models' modules left out.

    Tensors and numbers are not copied: what is put back is which of them stood where.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._training = [module.training for module in self._modules]
        self._children = [dict(module._modules) for module in self._modules]  # noqa: SLF001
        self._transient = [(m, set(m._non_persistent_buffers_set)) for m in self._modules]  # noqa: SLF001
        self._contents: list[tuple[Any, Any]] = []
        self._empty: list[Any] = []
        seen: set[int] = set()
        pending: list[Any] = []
        for module in self._modules:
            attributes = vars(module)
            self._contents.append((attributes, dict(attributes)))
            for name in _TABLES:
                table = attributes[name]
                if table:
                    self._keep(table)
                else:
                    self._empty.append(table)
            own = [attributes[name] for name in attributes.keys() - _OF_EVERY_MODULE]
            pending += [value for value in own if type(value) not in _PRIMITIVE]
        self._walk(pending, seen)

    def _walk(self, pending: list[Any], seen: set[int]) -> None:
        while pending:
            value = pending.pop()
            if isinstance(value, _ATOMS) or id(value) in seen:
                continue
            if isinstance(value, tuple):
                if set(map(type, value)) <= _PRIMITIVE:
                    continue
                held = value
            else:
                held = _held_by(value)
                if held is None or id(held) in seen:
                    continue
            seen.add(id(held))
            self._keep(held)
            if len(held) <= _LONG:
                pending.extend(_items(held))

    def _keep(self, held: Any) -> None:
        kind = next(kind for kind in (dict, list, set, tuple) if isinstance(held, kind))
        self._contents.append((held, kind(held)))

    def has_new_modules(self) -> bool:
        """Tell whether a module got or lost a child."""
        pairs = zip(self._modules, self._children, strict=True)
        return any(module._modules.keys() != children.keys() for module, children in pairs)  # noqa: SLF001

    def restore_modes(self) -> None:
        """Put back train or eval, and which buffers are not to be stored."""
        for module, training in zip(self._modules, self._training, strict=True):
            if module.training != training:
                module.training = training
        for module, names in self._transient:
            if module._non_persistent_buffers_set != names:  # noqa: SLF001
                _refill(module._non_persistent_buffers_set, names)  # noqa: SLF001

    def rewind(self) -> None:
        """Put back everything."""
        for held, before in self._contents:
            if not isinstance(held, tuple) and not _same(held, before):
                _refill(held, before)
        for held in self._empty:
            held.clear()


def _held_by(value: Any) -> Any:
    """Return the dict, list or set in which an object keeps what it holds; None if there is none to be seen."""
    if type(value) in _CONTAINERS:
        return value
    if isinstance(value, _NOT_OF_THE_MODEL):
        return None
    attributes = getattr(value, "__dict__", None)
    return attributes if type(attributes) is dict else None


def _items(held: Any) -> Iterator[Any]:
    return iter(held.values() if isinstance(held, dict) else held)


def _same(held: Any, before: Any) -> bool:
    if isinstance(held, set):
        return bool(held == before)
    if len(held) != len(before):
        return False
    if isinstance(held, dict) and any(a is not b for a, b in zip(held, before, strict=True)):
        return False
    return all(a is b for a, b in zip(_items(held), _items(before), strict=True))


def _refill(held: Any, before: Any) -> None:
    if isinstance(held, list):
        held[:] = before
    else:
        held.clear()
        held.update(before)
