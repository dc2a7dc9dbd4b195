"""States of modules: many are remembered and compared at once, so that most of the work is done in C."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from itertools import chain, filterfalse
from operator import is_, itemgetter
from sys import getrefcount
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from opcount.dryrun.containers import ATOMS, empty_again, put_back_dict, put_back_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opcount.dryrun.containers import Undo

_ATOMS_BUT_TENSORS = ATOMS - {Tensor, nn.Parameter}

_TABLES = frozenset(
    name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, OrderedDict, list, set))
)
"""Attributes in which a module holds what is its own."""

_tables_of = itemgetter(*_TABLES)

_KINDS_OF_TABLES = frozenset(map(type, _tables_of(vars(nn.Module()))))

_NOTHING: dict[str, Any] = {}


class ModuleStates(NamedTuple):
    """Modules as they were.

    Attributes:
        kinds: Their classes.
        names: Names of their attributes.
        attributes: Their attributes.
        full: Tables that held something, and what that was.
        empty: Tables that held nothing.
        order: How many were remembered before.
    """

    kinds: list[type]
    names: list[tuple[str, ...]]
    attributes: list[dict[str, Any]]
    full: list[tuple[Any, Any]]
    empty: list[Any]
    order: int

    def contents(self) -> list[Any]:
        """Return what is in the tables, except for atoms and modules."""
        dull = ATOMS.union(self.kinds)
        values = chain.from_iterable(held if type(held) is set else held.values() for _, held in self.full)
        return [value for value in values if type(value) not in dull]

    def tables(self) -> list[Any]:
        """Return the tables."""
        return [*map(itemgetter(0), self.full), *self.empty]

    def are_shared(self) -> bool:
        """Return whether another module has one of the tables of a module that is about to die."""
        return _references(self) > _REFERENCES_OF_ONE

    def restoring_objects(self, modules: list[nn.Module]) -> Iterator[Undo]:
        """Yield what puts back the modules, if any is not as it was, but for what is in their tables."""
        if not all(map(is_, map(type, modules), self.kinds)):
            yield from ((_put_back_class, *pair) for pair in zip(modules, self.kinds, strict=True))
        now = list(map(vars, modules))
        if list(map(tuple, now)) != self.names or not _hold_the_same(now, self.attributes):
            yield from ((put_back_dict, *pair) for pair in zip(now, self.attributes, strict=True))

    def restoring_tables(self) -> Iterator[Undo]:
        """Yield what puts back the tables, if any is not as it was."""
        dicts = [pair for pair in self.full if type(pair[0]) is not set]
        now, before = list(map(itemgetter(0), dicts)), list(map(itemgetter(1), dicts))
        if list(map(tuple, now)) != list(map(tuple, before)) or not _hold_the_same(now, before):
            yield from ((put_back_dict, *pair) for pair in dicts)
        yield from ((put_back_set, table, held) for table, held in self.full if type(table) is set)
        if any(self.empty):
            yield empty_again, self.empty, None


def states_of(modules: list[nn.Module], order: int) -> tuple[list[dict[str, Any]], ModuleStates]:
    """Return the attributes of modules in which something may be found, and the states of all modules."""
    attributes = [vars(module).copy() for module in modules]
    names = list(map(tuple, attributes))
    tables: list[Any] = []
    held = []
    for each, all_names in zip(attributes, names, strict=True):
        others = all_names
        if _has_tables(each, tables):
            others, values_of = _others(all_names)
            if _ATOMS_BUT_TENSORS.issuperset(map(type, values_of(each))):
                held.append(_NOTHING)
                continue
        held.append({name: each[name] for name in others if _may_hold(each[name])})
    full = [(table, table.copy()) for table in filter(None, tables)]
    empty = list(filterfalse(None, tables))
    return held, ModuleStates(list(map(type, modules)), names, attributes, full, empty, order)


def _has_tables(attributes: dict[str, Any], tables: list[Any]) -> bool:
    """Add the tables of a module to others; tell whether it has all, and they are Python's."""
    try:
        found = _tables_of(attributes)
    except KeyError:
        return False
    if not _KINDS_OF_TABLES.issuperset(map(type, found)):  # those of scripted modules are views of what C++ holds
        return False
    tables += found
    return True


def _may_hold(value: Any) -> bool:
    kind = type(value)
    return kind not in _ATOMS_BUT_TENSORS and not (kind is tuple and _ATOMS_BUT_TENSORS.issuperset(map(type, value)))


@lru_cache(1 << 12)
def _others(names: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[dict[str, Any]], Iterable[Any]]]:
    """Return the names that are not those of tables, and what gets their values, in C."""
    others = tuple(name for name in names if name not in _TABLES)
    return others, itemgetter(*others, *others[:1]) if others else _nothing


def _nothing(_attributes: dict[str, Any]) -> Iterable[Any]:
    return ()


def _hold_the_same(now: list[Any], before: list[Any]) -> bool:
    """Return whether dicts of the same sizes hold the same objects, one after the other."""
    return all(map(is_, chain.from_iterable(map(dict.values, now)), chain.from_iterable(map(dict.values, before))))


def _put_back_class(module: nn.Module, kind: type) -> None:
    if type(module) is not kind:
        module.__class__ = kind


def _references(states: ModuleStates) -> int:
    """Return how often the tables of a module that is about to die are referred to, at most."""
    return max(map(getrefcount, chain(map(itemgetter(0), states.full), states.empty)), default=0)


def _references_of_one() -> int:
    """Return how often the tables of a module are referred to that shares them with none."""
    module = nn.Module()
    return _references(states_of([module], 0)[1])


_REFERENCES_OF_ONE = _references_of_one()
