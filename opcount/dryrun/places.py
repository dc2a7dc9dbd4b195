"""Places in which a program keeps objects; each can return its contents by name, and restore them."""

from __future__ import annotations

import functools
import gc
import types
from typing import TYPE_CHECKING, Any

from opcount.dryrun.containers import items_of, put_back_dict, put_back_list, put_back_set
from opcount.identity import identity

if TYPE_CHECKING:
    from contextvars import ContextVar

Cache: Any = type(functools.lru_cache(len))
"""Class of functions with a ``functools.lru_cache``."""

_SLOTS: dict[type, tuple[Any, ...]] = {}


class Variables:
    """Some of the variables of a namespace.

    Attributes:
        before: Earlier values of the noted names that were set.
    """

    def __init__(self, variables: dict[str, Any]) -> None:
        self._variables = variables
        self._names: set[str] = set()
        self.before: dict[str, Any] = {}

    def note(self, names: frozenset[str]) -> list[Any]:
        """Note names, and return the values of new ones."""
        new = names - self._names
        if not new:
            return []
        self._names |= new
        held = {name: self._variables[name] for name in new & self._variables.keys()}
        self.before |= held
        return list(held.values())

    def get(self) -> dict[Any, Any]:
        """Return those that are set."""
        return {name: self._variables[name] for name in self._names if name in self._variables}

    def put(self, before: dict[Any, Any]) -> None:
        """Restore them."""
        for name in self._names - before.keys():
            self._variables.pop(name, None)
        self._variables.update(before)


class Attributes:
    """Attributes of a class, except for dunder names."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def get(self) -> dict[Any, Any]:
        """Return them by name."""
        return vars(self._kind).copy()

    def put(self, before: dict[Any, Any]) -> None:
        """Restore them."""
        now = self.get()
        for name in now.keys() - before.keys():
            if not name.startswith("__"):
                type.__delattr__(self._kind, name)
        for name, value in before.items():
            if now.get(name, self) is not value and not name.startswith("__"):
                type.__setattr__(self._kind, name, value)


class Cells:
    """Variables that a function closes over."""

    def __init__(self, cells: tuple[types.CellType, ...]) -> None:
        self._cells = cells

    def get(self) -> dict[Any, Any]:
        """Return those that are set."""
        held = {}
        for index, cell in enumerate(self._cells):
            try:
                held[index] = cell.cell_contents
            except ValueError:
                continue
        return held

    def put(self, before: dict[Any, Any]) -> None:
        """Restore them."""
        for index, cell in enumerate(self._cells):
            if index in before:
                cell.cell_contents = before[index]
            else:
                _clear(cell)


class Slots:
    """Attributes of an object in slots."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._slots = slots_of(type(value))

    def get(self) -> dict[Any, Any]:
        """Return those that are set."""
        held = {}
        for slot in self._slots:
            try:
                held[slot] = slot.__get__(self._value)
            except AttributeError:
                continue
        return held

    def put(self, before: dict[Any, Any]) -> None:
        """Restore them, also on a frozen object."""
        now = self.get()
        for slot in now.keys() - before.keys():
            slot.__delete__(self._value)
        for slot, value in before.items():
            if slot not in now or now[slot] is not value:
                slot.__set__(self._value, value)


class Contents:
    """Contents of a container: a dict's by key, others by index."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def get(self) -> dict[Any, Any]:
        """Return the contents."""
        held = items_of(self._container)
        return held if isinstance(held, dict) else dict(enumerate(held))

    def put(self, before: dict[Any, Any]) -> None:
        """Restore the contents."""
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
        """Return its value, or nothing if it is not set."""
        value = self._variable.get(self)
        return {} if value is self else {"value": value}

    def put(self, before: dict[Any, Any]) -> None:
        """Restore it; a variable that was not set gets its default, since it cannot be unset."""
        self._variable.set(before.get("value", self._default))


class Results:
    """Results in the cache of a function with an ``lru_cache``."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._known: set[Any] | None = None

    def get(self) -> dict[Any, Any]:
        """Return the results by ``id``."""
        held, keys = self._contents()
        if self._known is None:
            self._known = set(keys)
        return {identity(result): result for result in (*held, *keys.values()) if result is not keys}

    def put(self, _before: dict[Any, Any]) -> None:
        """Remove new results; keep the others."""
        if self._known:
            _, keys = self._contents()
            for key in [key for key in keys if key not in self._known]:
                del keys[key]  # as where another thread has removed it, which the cache expects
        else:
            self._cache.cache_clear()

    def _contents(self) -> tuple[list[Any], dict[Any, Any]]:
        """Return the referents of the cache, and its dict: the last one among them that is not its ``__dict__``."""
        size = self._cache.cache_info().currsize
        if not size:
            return [], {}
        held = gc.get_referents(self._cache)
        tables = [each for each in held if type(each) is dict and each is not vars(self._cache)]
        return held, tables[-1] if tables and len(tables[-1]) == size else {}


def slots_of(kind: type) -> tuple[Any, ...]:
    """Return the slot descriptors of a Python class."""
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
