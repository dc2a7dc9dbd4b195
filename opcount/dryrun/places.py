"""Places in which a program keeps objects: each tells what it holds by name, and holds again what it held."""

from __future__ import annotations

import functools
import gc
import types
from typing import TYPE_CHECKING, Any

from opcount.dryrun.containers import items_of, put_back_dict, put_back_list, put_back_set

if TYPE_CHECKING:
    from contextvars import ContextVar

Cache: Any = type(functools.lru_cache(len))
"""The class of functions that ``functools.lru_cache`` makes."""

_SLOTS: dict[type, tuple[Any, ...]] = {}


class Variables:
    """Some of the variables of a namespace.

    Attributes:
        before: What those of the noted names were that were set.
    """

    def __init__(self, variables: dict[str, Any]) -> None:
        self._variables = variables
        self._names: set[str] = set()
        self.before: dict[str, Any] = {}

    def note(self, names: frozenset[str]) -> list[Any]:
        """Note names, and return what those stand for that are new."""
        new = names - self._names
        self._names |= new
        held = {name: self._variables[name] for name in new & self._variables.keys()}
        self.before |= held
        return list(held.values())

    def get(self) -> dict[Any, Any]:
        """Return what they are, without those that are not set."""
        return {name: self._variables[name] for name in self._names if name in self._variables}

    def put(self, before: dict[Any, Any]) -> None:
        """Set them again."""
        for name in self._names - before.keys():
            self._variables.pop(name, None)
        self._variables.update(before)


class Attributes:
    """The attributes of a class; those in which Python itself notes things are left alone."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def get(self) -> dict[Any, Any]:
        """Return what they are."""
        return vars(self._kind).copy()

    def put(self, before: dict[Any, Any]) -> None:
        """Set them again."""
        now = self.get()
        for name in now.keys() - before.keys():
            if not name.startswith("__"):
                type.__delattr__(self._kind, name)
        for name, value in before.items():
            if now.get(name, self) is not value and not name.startswith("__"):
                type.__setattr__(self._kind, name, value)


class Cells:
    """The variables that a function closes over."""

    def __init__(self, cells: tuple[types.CellType, ...]) -> None:
        self._cells = cells

    def get(self) -> dict[Any, Any]:
        """Return what they are, without those that are not set."""
        held = {}
        for index, cell in enumerate(self._cells):
            try:
                held[index] = cell.cell_contents
            except ValueError:
                continue
        return held

    def put(self, before: dict[Any, Any]) -> None:
        """Set them again."""
        for index, cell in enumerate(self._cells):
            if index in before:
                cell.cell_contents = before[index]
            else:
                _clear(cell)


class Slots:
    """The attributes that an object has in slots."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._slots = slots_of(type(value))

    def get(self) -> dict[Any, Any]:
        """Return what they are, without those that are not set."""
        held = {}
        for slot in self._slots:
            try:
                held[slot] = slot.__get__(self._value)
            except AttributeError:
                continue
        return held

    def put(self, before: dict[Any, Any]) -> None:
        """Set them again, also on an object that is frozen."""
        now = self.get()
        for slot in now.keys() - before.keys():
            slot.__delete__(self._value)
        for slot, value in before.items():
            if slot not in now or now[slot] is not value:
                slot.__set__(self._value, value)


class Contents:
    """What a container holds: a dict by key, another one by number."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def get(self) -> dict[Any, Any]:
        """Return what it holds."""
        held = items_of(self._container)
        return held if isinstance(held, dict) else dict(enumerate(held))

    def put(self, before: dict[Any, Any]) -> None:
        """Fill it again."""
        container = self._container
        if isinstance(container, dict):
            put_back_dict(container, before)
        elif isinstance(container, set):
            put_back_set(container, list(before.values()))
        else:
            put_back_list(container, list(before.values()))


class Context:
    """A context variable, in the context of this thread."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable
        try:
            self._default = variable.get()
        except LookupError:
            self._default = None

    def get(self) -> dict[Any, Any]:
        """Return what it is, nothing if it is not set."""
        value = self._variable.get(self)
        return {} if value is self else {"value": value}

    def put(self, before: dict[Any, Any]) -> None:
        """Set it again; where it was not set, to its default, for nothing takes a value away."""
        self._variable.set(before.get("value", self._default))


class Results:
    """What a function with an ``lru_cache`` remembers."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._known = set(self._keys())

    def get(self) -> dict[Any, Any]:
        """Return the results, by ``id``; nothing of an empty cache, as most are."""
        if not self._cache.cache_info().currsize:
            return {}
        held: list[Any] = gc.get_referents(self._cache)
        keys = self._keys()
        return {id(result): result for result in (*held, *keys.values()) if result is not keys}

    def put(self, _before: dict[Any, Any]) -> None:
        """Forget what is new; the other results stay."""
        if self._known:
            keys = self._keys()
            for key in [key for key in keys if key not in self._known]:
                del keys[key]  # as where another thread has removed it, which the cache expects
        else:
            self._cache.cache_clear()

    def _keys(self) -> dict[Any, Any]:
        """Return the table of the cache, which it holds after the results and beside its attributes."""
        if not self._cache.cache_info().currsize:
            return {}
        tables = [
            each for each in gc.get_referents(self._cache) if type(each) is dict and each is not vars(self._cache)
        ]
        return tables[-1] if tables and len(tables[-1]) == self._cache.cache_info().currsize else {}


def slots_of(kind: type) -> tuple[Any, ...]:
    """Return the descriptors of the attributes that objects of a class in Python have in slots."""
    known = _SLOTS.get(kind)
    if known is None:
        tables = (vars(base).values() for base in kind.__mro__ if "__slots__" in vars(base))
        known = tuple(each for table in tables for each in table if type(each) is types.MemberDescriptorType)
        _SLOTS[kind] = known
    return known


def _clear(cell: types.CellType) -> None:
    try:
        del cell.cell_contents
    except ValueError:
        return
