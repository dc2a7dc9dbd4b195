"""Objects as they were: attributes and contents of containers, to any depth, put back in place.

What a program makes inside a dry run is fake, and what it stores is stored for good: in an attribute, a dict that
serves as a cache, a list that a hook appends to. So everything that can be reached from a module is looked at before.
"""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict, deque
from functools import partial
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

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

_ATOMS_BUT_TENSORS = _ATOMS - _TENSORS

_CONTAINERS = {dict, OrderedDict, list, set}


_TABLES = frozenset(name for name, value in vars(nn.Module()).items() if type(value) in _CONTAINERS)
"""Attributes in which a module holds what is its own."""

_tables_of = itemgetter(*_TABLES)


class _State(NamedTuple):
    """A module as it was: its class, attributes, and what its own tables held."""

    module: weakref.ref[nn.Module]
    kind: type
    attributes: dict[str, Any]
    tables: tuple[Any, ...]
    full: list[tuple[Any, Any]]


class Snapshot:
    """Remembers objects, and puts them back.

    A module is remembered for as long as it lives: one that forward makes and drops dies when it does in a real run,
    where its name is free from then on.
    """

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}
        self._modules: dict[int, _State] = {}
        self._empty: list[Any] = []
        self._undo: list[Undo] = [(_empty_again, self._empty, None)]

    def has(self, module: nn.Module) -> bool:
        """Tell whether a module is remembered."""
        return id(module) in self._modules

    def module(self, module: nn.Module) -> dict[str, Any]:
        """Remember a module: its attributes, what they hold, and its class, which lazy ones change.

        Returns:
            The attributes in which there may be tensors.
        """
        key = id(module)
        reference = weakref.ref(module, partial(_forget, self._modules, key))
        attributes = vars(module).copy()
        tables = _tables_of(attributes) if attributes.keys() >= _TABLES else ()
        if not _CONTAINERS.issuperset(map(type, tables)):  # those of scripted modules are views of what C++ holds
            tables = ()
        full = [(table, type(table)(table)) for table in tables if table]
        self._modules[key] = _State(reference, type(module), attributes, tables, full)
        held = {}
        for name, value in attributes.items():
            kind = type(value)
            if kind in _ATOMS_BUT_TENSORS or (tables and name in _TABLES):
                continue
            if kind is not tuple or not _ATOMS_BUT_TENSORS.issuperset(map(type, value)):
                held[name] = value
        for table, _ in full:
            self._look_into(table if isinstance(table, set) else table.values())
        self._look_into(held.values())
        return held

    def note(self, values: Iterable[Any]) -> None:
        """Remember objects that are not modules."""
        self._look_into(values)

    def restoring(self) -> list[Undo]:
        """Return what puts each object back."""
        return [*self._undo, *((_put_back_module, state, None) for state in list(self._modules.values()))]

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
            self._undo.append((put_back_dict, value, before))
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
        if isinstance(value, partial):
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
        self._undo.append((put_back_dict, attributes, before))
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


def _forget(states: dict[int, _State], key: int, reference: object) -> None:
    if key in states and states[key].module is reference:
        del states[key]


def _put_back_module(state: _State, _before: None) -> None:
    module = state.module()
    if module is None:
        return
    if type(module) is not state.kind:
        module.__class__ = state.kind
    put_back_dict(vars(module), state.attributes)
    full = [table for table in state.tables if table]
    if not _same(full, [table for table, _ in state.full]):
        known = {id(table) for table, _ in state.full}
        _empty_again([table for table in full if id(table) not in known], None)
    for table, before in state.full:
        (_put_back_set if isinstance(before, set) else put_back_dict)(table, before)


def _empty_again(containers: list[Any], _before: None) -> None:
    for container in containers:
        if len(container):
            container.clear()


def put_back_dict(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    """Have a dict hold what it held, in that order."""
    if _same(now, before) and _same(now.values(), before.values()):
        return
    kind = OrderedDict if isinstance(now, OrderedDict) else dict  # whatever a class of the program's does beside
    for name in [name for name in now if name not in before]:
        kind.pop(now, name)
    if not all(map(is_, now, before)):  # what is left is not what was first
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
