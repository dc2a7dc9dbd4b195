"""State that the code of a model keeps outside of the model: globals, class attributes, closures, defaults, caches.

A dry run leaves it as the program has made it, unless something fake was stored there, which the next real run would
find: then all of that namespace or container is put back, with the flag beside it that says that it is filled.
"""

from __future__ import annotations

import dis
import functools
import gc
import logging
import sys
import types
from collections import defaultdict, deque
from contextvars import ContextVar
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from opcount._torch.functorch import is_wrapped, unwrapped
from opcount.dryrun.containers import ATOMS, items_of
from opcount.dryrun.function_caches import caches_of
from opcount.dryrun.places import Attributes, Cache, Cells, Contents, Context, Results, Slots, Variables, slots_of
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opcount.dryrun.containers import Undo

_ABSENT = object()

_STORE, _IMPORT = dis.opmap["STORE_ATTR"], dis.opmap["IMPORT_NAME"]
_IMPORTS = {"IMPORT_NAME", "IMPORT_FROM"}
_ATOMS = ATOMS - {type, types.ModuleType}

_MANY = 1000
"""Size from which a container is a registry, whose values are not looked into."""

_ENOUGH = 200
"""Number of objects, the nearest ones first, after which no others are looked at: large libraries have no end."""

_OTHERS = {*sys.stdlib_module_names, "torch", "numpy", "opcount", "functorch", "sympy", "triton", "pytest", "_pytest"}
_OTHERS.discard("__main__")
"""Packages whose code keeps no tensors of a model."""

_HOLDERS = {"builtins", "collections", "weakref", "types", "_thread", "queue", "_queue", "functools", "dataclasses"}
"""Modules of Python whose objects hold what a program puts there."""

_CLOSED = (type, types.ModuleType, types.CodeType, types.FrameType, types.TracebackType, types.BuiltinFunctionType)
"""Types of objects through which the whole process can be reached."""

_NOT_LOOKED_INTO = (Tensor, nn.Module, types.ModuleType, logging.Logger)
"""Types of objects that have a care of their own, or hold nothing of a model."""

_HOLD_TENSORS = (nn.Module, torch.optim.Optimizer, torch.distributions.Distribution, nn.utils.rnn.PackedSequence)
"""PyTorch's classes of objects that hold tensors of a program."""

_ENTRIES = {"forward", "__init__", "__call__", "__post_init__"}
"""Methods that are called without their names."""

_WRAPPERS: tuple[tuple[Any, Any], ...] = (
    ((staticmethod, classmethod), lambda value: (value.__func__,)),
    (types.MethodType, lambda value: (value.__func__, value.__self__)),
    (property, lambda value: (value.fget, value.fset)),
    (functools.cached_property, lambda value: (value.func,)),
    (functools.partial, lambda value: (value.func, *value.args, *value.keywords.values())),
    (types.MappingProxyType, lambda value: list(value.values())),
    (tuple, items_of),
)
"""Objects that stay what they are, and what they hold."""


class Namespaces:
    """Remembers what code can reach, and puts back what got something fake.

    Code reaches what it names: from the methods by which a class is called to globals, and to attributes of classes
    that it reaches, by their names alone.

    Args:
        is_spoilt: Returns whether a tensor is fake, or real without the values that it should have.
    """

    def __init__(self, is_spoilt: Callable[[Tensor], bool]) -> None:
        self._is_spoilt_tensor = is_spoilt
        self._seen: dict[int, Any] = {}
        self._variables: dict[int, Variables] = {}
        self._used = set(_ENTRIES)
        self._unused: defaultdict[str, list[Any]] = defaultdict(list)
        self._places: list[tuple[Any, dict[Any, Any]]] = []

    def look(self, code: Any) -> None:
        """Remember what a class or a function can reach; its own attributes, and the caches beside it, in any case."""
        todo = deque([code])
        while todo and (len(self._seen) < _ENOUGH or todo[0] is code):
            value = todo.popleft()
            kind = type(value)
            if kind in _ATOMS or identity(value) in self._seen:
                continue
            if kind is types.FunctionType:
                self._seen[identity(value)] = value
                todo.extend(self._of_function(value))
            elif not isinstance(value, _NOT_LOOKED_INTO):
                self._seen[identity(value)] = value
                todo.extend(self._inside(value))

    def hold_fakes(self, value: Any) -> bool:
        """Return whether fake tensors can be reached from an object."""
        return holds_spoilt([value], self._is_spoilt_tensor)

    def restoring(self) -> list[Undo]:
        """Return what puts each place back that got something fake."""
        places = [*self._places, *((variables, variables.before) for variables in self._variables.values())]
        spoilt = [(place, before) for place, before in places if self._is_spoilt(place.get(), before)]
        return [(put_back_place, place, before) for place, before in spoilt]

    def _note(self, place: Any) -> dict[Any, Any]:
        held: dict[Any, Any] = place.get()
        self._places.append((place, held))
        return held

    def _inside(self, value: Any) -> Iterable[Any]:
        if isinstance(value, type):
            return self._of_class(value)
        if isinstance(value, Cache):
            self._note(Results(value))
            return (value.__wrapped__,)
        if isinstance(value, ContextVar):
            return self._note(Context(value)).values()
        for kinds, content in _WRAPPERS:
            if isinstance(value, kinds):
                held: Iterable[Any] = content(value)
                return held
        return self._of_object(value)

    def _of_class(self, kind: type) -> Iterable[Any]:
        found: list[Any] = []
        used, unused = self._used, self._unused
        for each in kind.__mro__:
            if (each is not kind and identity(each) in self._seen) or _is_others(each.__module__):
                continue
            self._seen[identity(each)] = each
            for cache in caches_of(each.__module__):
                if identity(cache) not in self._seen:
                    self._seen[identity(cache)] = cache
                    self._note(Results(cache))
                    found.append(cache.__wrapped__)
            for name, value in self._note(Attributes(each)).items():
                if type(value) not in _ATOMS:
                    (found if name in used else unused[name]).append(value)
        return found

    def _of_function(self, function: types.FunctionType) -> Iterable[Any]:
        found: list[Any] = []
        facts = code_facts(function.__code__)
        if function.__closure__:
            found.extend(self._note(Cells(function.__closure__)).values())
        if function.__defaults__:
            found.extend(function.__defaults__)
        if function.__kwdefaults__:
            found.extend(function.__kwdefaults__.values())
        if facts.stores and function.__name__ in facts.names:
            found.extend(self._of_container(vars(function)))
        variables = function.__globals__
        if not _is_others(variables.get("__name__")):
            self._of_globals(variables, facts.names, found)
            if facts.imports:
                self._of_imports(variables.get("__package__"), facts, found)
            if not facts.names <= self._used:
                new = facts.names - self._used
                self._used |= new
                for name in new & self._unused.keys():
                    found += self._unused.pop(name)
        return found

    def _of_globals(self, variables: dict[str, Any], names: frozenset[str], found: list[Any]) -> None:
        noted = self._variables.get(identity(variables))
        if noted is None:
            noted = self._variables[identity(variables)] = Variables(variables)
        for value in noted.note(names):
            if not isinstance(value, types.ModuleType):
                found.append(value)
            elif not _is_others(value.__name__):
                self._of_globals(vars(value), names, found)

    def _of_imports(self, package: Any, facts: _Facts, found: list[Any]) -> None:
        for name in facts.imports:
            for module in (sys.modules.get(name), sys.modules.get(f"{package}.{name}")):
                if module is not None and not _is_others(module.__name__):
                    self._of_globals(vars(module), facts.names, found)

    def _of_object(self, value: Any) -> Iterator[Any]:
        if isinstance(value, (dict, list, set, deque)):
            yield from self._of_container(value)
        kind = type(value)
        if kind.__module__ != "builtins" and _may_hold(kind):
            attributes = getattr(value, "__dict__", None)
            if type(attributes) is dict:
                yield from self._of_container(attributes)
            if slots_of(kind):
                yield from self._note(Slots(value)).values()

    def _of_container(self, value: Any) -> Iterable[Any]:
        held = self._note(Contents(value))
        return list(held.values()) if len(held) < _MANY else ()

    def _is_spoilt(self, now: dict[Any, Any], before: dict[Any, Any]) -> bool:
        """Return whether something fake is new."""
        if len(now) == len(before) and all(map(is_, now.values(), before.values())):
            return False
        new = [value for name, value in now.items() if before.get(name, _ABSENT) is not value]
        return holds_spoilt(new, self._is_spoilt_tensor)


def holds_spoilt(values: Iterable[Any], is_spoilt: Callable[[Tensor], bool]) -> bool:
    """Return whether certain tensors can be reached from values, other than through code and classes."""
    todo, seen = list(values), {}
    while todo:
        value = todo.pop()
        if identity(value) in seen:
            continue
        if isinstance(value, Tensor):
            if is_spoilt(value):
                return True
            todo.extend([unwrapped(value)] if is_wrapped(value) else vars(value).values())
        elif type(value) in _ATOMS or isinstance(value, _CLOSED):
            continue
        seen[identity(value)] = value
        if isinstance(value, types.FunctionType):
            todo.extend((value.__closure__, value.__defaults__, value.__kwdefaults__, vars(value)))
        elif isinstance(value, _HOLD_TENSORS) or _may_hold(type(value)):
            todo.extend(gc.get_referents(value))
    return False


_CAPACITY = 1 << 14
_KNOWN: dict[int, tuple[types.CodeType, _Facts]] = {}
"""Code and its facts by the ``id`` of the code: its own hash takes as long as all the rest."""


class _Facts(NamedTuple):
    """Names that code reads, writes and imports.

    Attributes:
        names: Of variables that are not its own, and of attributes, also of code inside it.
        stores: Whether it sets attributes.
        imports: Names by which it imports modules, and what it imports from them.
    """

    names: frozenset[str]
    stores: bool
    imports: frozenset[str]


def code_facts(code: types.CodeType) -> _Facts:
    """Return what is known of code."""
    known = _KNOWN.get(identity(code))
    if known is None:
        if len(_KNOWN) >= _CAPACITY:
            _KNOWN.clear()
        known = _KNOWN[identity(code)] = code, _read(code)
    return known[1]


def _read(code: types.CodeType) -> _Facts:
    inner = [code_facts(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    names = frozenset(code.co_names).union(*(each.names for each in inner))
    steps = code.co_code[::2]
    stores = _STORE in steps or "setattr" in names or any(each.stores for each in inner)
    own = (each.argval for each in dis.get_instructions(code) if each.opname in _IMPORTS) if _IMPORT in steps else ()
    return _Facts(names, stores, frozenset(own).union(*(each.imports for each in inner)))


def put_back_place(place: Any, before: Any) -> None:
    """Have a place hold what it held."""
    place.put(before)


def _may_hold(kind: type) -> bool:
    return kind.__module__ in _HOLDERS or not _is_others(kind.__module__)


@functools.lru_cache(1 << 12)
def _is_others(module: Any) -> bool:
    return not isinstance(module, str) or module.partition(".")[0] in _OTHERS
