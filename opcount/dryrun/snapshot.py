"""Objects as they were: attributes and contents of containers, to any depth, put back in place.

What a program makes inside a dry run is fake, and what it stores is stored for good: in an attribute, a dict that
serves as a cache, a list that a hook appends to. So everything that can be reached from a module is looked at before.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, deque
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Undo = tuple[Callable[[Any, Any], None], Any, Any]
    """What puts an object back, the object, and what it was."""

_ATOMS = {
    int, float, complex, bool, str, bytes, type(None), type, types.ModuleType, types.BuiltinFunctionType, range,
    torch.dtype, torch.device, torch.Size, Tensor, nn.Parameter, torch.Generator, types.BuiltinMethodType,
}  # fmt: skip
"""Types in which nothing is found."""

_FOREIGN = (
    "torch.",
    "opcount.",
    "logging",
    "threading",
    "_thread",
    "io",
    "_io",
    "concurrent.",
    "multiprocessing.",
    "asyncio.",
)
"""Modules whose objects are left alone; a module of a network, whatever its class, is not."""

_TENSORS = {Tensor, nn.Parameter}

_CONTAINERS = {dict, OrderedDict, list, set}


class Snapshot:
    """Remembers objects, and puts them back."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}
        self._empty: list[Any] = []
        self._undo: list[Undo] = [(_empty_again, self._empty, None)]

    @property
    def seen(self) -> dict[int, Any]:
        """What was looked at, by id."""
        return self._seen

    def module(self, module: nn.Module) -> dict[str, Any]:
        """Remember a module: its attributes, what they hold, and its class, which lazy ones change.

        Returns:
            The attributes in which there may be tensors.
        """
        self._seen[id(module)] = module
        before = vars(module).copy()
        self._undo.append((_put_back_module, module, (type(module), before)))
        held = {}
        for name, value in before.items():
            kind = type(value)
            if kind in _ATOMS:
                if kind in _TENSORS:
                    held[name] = value
            elif kind in _CONTAINERS and not value:
                self._empty.append(value)
            else:
                held[name] = value
        self._look_into(held.values())
        return held

    def note(self, values: Iterable[Any]) -> None:
        """Remember objects that are not modules."""
        self._look_into(values)

    def restoring(self) -> list[Undo]:
        """Return what puts each object back."""
        return self._undo

    def _look_into(self, values: Iterable[Any]) -> None:
        todo = [iter(values)]
        while todo:
            for value in todo.pop():
                kind = type(value)
                if kind in _ATOMS:
                    continue
                if kind in _CONTAINERS and not value:
                    self._empty.append(value)
                    continue
                if isinstance(value, (nn.Module, Tensor)) or id(value) in self._seen:
                    continue
                inside = self._remember(value)
                if inside:
                    todo.append(iter(inside))

    def _remember(self, value: Any) -> Iterable[Any] | None:  # noqa: PLR0911  (one for each kind of object)
        """Remember what an object holds, and return it."""
        if isinstance(value, dict):
            self._seen[id(value)] = value
            before = dict(value)
            self._undo.append((_put_back_dict, value, before))
            return before.values()
        if isinstance(value, (list, deque)):
            self._seen[id(value)] = value
            items = list(value)
            self._undo.append((_put_back_list, value, items))
            return items
        if isinstance(value, set):
            self._seen[id(value)] = value
            members = set(value)
            self._undo.append((_put_back_set, value, members))
            return members
        if isinstance(value, tuple):
            self._seen[id(value)] = value
            return value
        if isinstance(value, types.FunctionType):
            self._seen[id(value)] = value
            return [_content(cell) for cell in value.__closure__ or ()]
        if isinstance(value, types.MethodType):
            return [value.__self__]
        if isinstance(value, functools.partial):
            return [value.func, *value.args, *value.keywords.values()]
        return self._remember_object(value)

    def _remember_object(self, value: Any) -> Iterable[Any] | None:
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is not dict or isinstance(value, (type, types.ModuleType)):
            return None
        if type(value).__module__.startswith(_FOREIGN):
            return None
        self._seen[id(value)] = value
        before = attributes.copy()
        self._undo.append((_put_back_dict, attributes, before))
        return before.values()


def put_back(undo: Iterable[Undo]) -> list[Exception]:
    """Put everything back, whatever happens to the others; return what was raised."""
    errors: list[Exception] = []
    for restore, now, before in undo:
        try:
            restore(now, before)
        except Exception as error:  # noqa: BLE001  (said when all the others are back)
            errors.append(error)
    return errors


def _put_back_module(module: nn.Module, before: tuple[type, dict[str, Any]]) -> None:
    kind, attributes = before
    if type(module) is not kind:
        module.__class__ = kind
    _put_back_dict(vars(module), attributes)


def _empty_again(containers: list[Any], _before: None) -> None:
    for container in containers:
        if len(container):
            container.clear()


def _put_back_dict(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    if _same(now, before) and _same(now.values(), before.values()):
        return
    kind = OrderedDict if isinstance(now, OrderedDict) else dict  # whatever a class of the program's does beside
    for name in [name for name in now if name not in before]:
        kind.pop(now, name)
    if not _same([name for name in before if name in now], now):
        for name in before:
            kind.pop(now, name, None)
    for name, value in before.items():
        kind.__setitem__(now, name, value)


def _put_back_list(now: Any, before: list[Any]) -> None:
    if _same(now, before):
        return
    if isinstance(now, list):
        now[:] = before
    else:
        now.clear()
        now.extend(before)


def _put_back_set(now: set[Any], before: set[Any]) -> None:
    if now != before:
        now.intersection_update(before)
        now.update(before)


def _same(now: Any, before: Any) -> bool:
    """Tell whether two collections hold the same objects."""
    return len(now) == len(before) and all(map(is_, now, before))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
