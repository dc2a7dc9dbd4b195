"""Objects as they were: attributes and contents of containers, to any depth, put back in place.

What a program makes inside a dry run is fake, and what it stores is stored for good: in an attribute, a dict that
serves as a cache, a list that a hook appends to. So everything that can be reached from a module is looked at before.
"""

from __future__ import annotations

import types
import weakref
from array import array
from collections import OrderedDict, deque
from contextvars import ContextVar
from functools import partial
from itertools import chain, count, filterfalse
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils import parametrize

from opcount.dryrun.containers import (
    ATOMS,
    content_of,
    empty_again,
    items_of,
    put_back_buffer,
    put_back_dict,
    put_back_list,
    put_back_set,
)
from opcount.dryrun.module_states import ModuleStates, states_of
from opcount.dryrun.namespaces import put_back_place
from opcount.dryrun.places import Attributes, Cache, Slots, slots_of
from opcount.errors import DryRunError
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opcount.dryrun.containers import Undo
    from opcount.dryrun.namespaces import Namespaces
    from opcount.dryrun.twins import Replaced

_FOREIGN = (
    "torch.",
    "opcount.",
    "logging",
    "threading",
    "io",
    "_io",
    "concurrent.",
    "multiprocessing.",
    "asyncio.",
)
"""Modules whose objects are left alone; a module of a network, whatever its class, is not."""

_KEEPERS = ("torch.optim.", "torch.amp.", "torch.cuda.amp.", "torch.nn.", "torch.ao.", "torch.distributions.")
"""Modules of PyTorch whose objects a program gives a state."""

_PUT_BACK: tuple[tuple[Any, Any], ...] = (
    (dict, put_back_dict),
    ((list, deque), put_back_list),
    (set, put_back_set),
)
"""Functions that restore containers, by type."""

_OPAQUE = ("builtins", "itertools")
"""Modules of iterators, which hold objects that nobody can put there."""

_LARGE = 1 << 20
"""Size in bytes from which an array of numbers is not remembered."""

_CONTAINERS = {dict, OrderedDict, list, set}


class Snapshot:
    """Remembers objects, and puts them back, of those that share tables the first last.

    Args:
        namespaces: Remember what the code of modules and functions can reach.

    Attributes:
        remembered: The modules that are remembered, by ``id``; those that may die before with a reference and a state.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._order = count()
        self._seen: dict[int, Any] = {}
        self.remembered: dict[int, tuple[weakref.ref[nn.Module], ModuleStates] | None] = {}
        self._held: list[tuple[list[nn.Module], ModuleStates]] = []
        self._survived: list[ModuleStates] = []
        self._empty: list[Any] = []
        self._undo: list[Undo] = [(empty_again, self._empty, None)]

    def has(self, module: nn.Module) -> bool:
        """Return whether a module is remembered."""
        return identity(module) in self.remembered

    def modules(self, modules: list[nn.Module], *, hold: bool) -> list[dict[str, Any]]:
        """Remember modules: their attributes, what they hold, and their classes, which lazy ones change.

        Args:
            modules: None of them is remembered already.
            hold: Remember them all until the end. Otherwise a module is remembered for as long as it lives: one that
                forward makes and drops dies when it does in a real run, where its name is free from then on. The
                tables that it shares stay remembered: those of the module of which it was a shallow copy.

        Returns:
            The attributes of each in which there may be tensors.
        """
        if hold:
            held, state = self._remember_modules(modules)
            self._held.append((modules, state))
            self.remembered.update(dict.fromkeys(map(identity, modules)))
            return held
        return [self._remember_weakly(module) for module in modules]

    def _remember_weakly(self, module: nn.Module) -> dict[str, Any]:
        key = identity(module)
        held, state = self._remember_modules([module])
        self.remembered[key] = weakref.ref(module, partial(self._forget, key)), state
        return held[0]

    def _remember_modules(self, modules: list[nn.Module]) -> tuple[list[dict[str, Any]], ModuleStates]:
        for kind in dict.fromkeys(map(type, modules)):
            self._look_at_class(kind)
        held, states = states_of(modules, next(self._order))
        self._look_into(states.contents())
        self._look_into(chain.from_iterable(map(dict.values, held)))
        return held, states

    def pass_over(self, modules: list[nn.Module], shared: Iterable[Any]) -> None:
        """Take modules that nobody uses later for remembered; remember what they share with others.

        Args:
            modules: They live until the end.
            shared: Objects.
        """
        for kind in dict.fromkeys(map(type, modules)):
            self._look_at_class(kind)
        self.remembered.update(dict.fromkeys(map(identity, modules)))
        self._look_into(shared)

    def leave(self, module: nn.Module, put_back: Callable[[Any, Any], None]) -> None:
        """Put a module back in another way, for the program had put other tensors into it when it was met.

        Args:
            module: One that is remembered weakly, and shares no table with another.
            put_back: Gets the module, by reference, and its attributes and tables as they were.
        """
        if (found := self.remembered[identity(module)]) is None:
            return
        reference, state = found
        others = (other for _, other in filter(None, self.remembered.values()) if other is not state)
        remembered = {identity(table) for other in (*others, *self._survived) for table in other.tables()}
        if remembered.isdisjoint(map(identity, state.tables())):
            self.remembered[identity(module)] = reference, ModuleStates([], [], [], [], [], state.order)
            self._undo.append((put_back, reference, [(vars(module), state.attributes[0]), *state.full]))

    def note(self, values: Iterable[Any]) -> None:
        """Remember objects that are not modules."""
        self._look_into(values)

    def note_attributes(self, attributes: list[dict[str, Any]]) -> None:
        """Remember the attributes of objects, most of which have none."""
        self._empty += filterfalse(None, attributes)
        self._look_into(filter(None, attributes))

    def note_replaced(self, replaced: Iterable[Replaced]) -> None:
        """Remember entries of tables, to put them back first: then most tables are found as they were, all at once."""
        self._undo += [(_put_back_entry, *entry) for entry in replaced if type(entry[0][0]) in _CONTAINERS]

    def restoring(self) -> Iterator[Undo]:
        """Yield what puts each object back; what is compared has been put back by the steps before."""
        yield from self._undo.copy()
        alive = [([reference()], state) for reference, state in filter(None, list(self.remembered.values()))]
        gone: list[Any] = [([None], state) for state in self._survived]
        for (module,), state in sorted([*alive, *gone], key=_order, reverse=True):
            if module is not None and state.kinds:  # none of one that is put back in another way
                yield from state.restoring_objects([module])
            yield from state.restoring_tables()
        for modules, state in self._held:
            yield from state.restoring_objects(modules)
            yield from state.restoring_tables()

    def _forget(self, key: int, reference: object) -> None:
        found = self.remembered.get(key)
        if found is not None and found[0] is reference:
            del self.remembered[key]
            if found[1].are_shared():
                self._survived.append(found[1])

    def _look_into(self, values: Iterable[Any]) -> None:
        todo = [iter(values)]
        while todo:
            for value in todo.pop():
                kind = type(value)
                if kind in ATOMS:
                    continue
                if kind in _CONTAINERS and not value:
                    self._empty.append(value)
                    continue
                if isinstance(value, (nn.Module, Tensor)) or identity(value) in self._seen:
                    continue
                inside = self._remember(value)
                if inside:
                    todo.append(iter(inside))

    def _look_at_class(self, kind: type) -> None:
        """Remember the class of a module; one that was made for a parametrized module is a part of that."""
        if kind.__module__ == parametrize.__name__ and identity(kind) not in self._seen:
            self._seen[identity(kind)] = kind
            attributes = Attributes(kind)
            self._undo.append((put_back_place, attributes, attributes.get()))
        self._namespaces.look(kind)

    def _remember(self, value: Any) -> Iterable[Any] | None:  # noqa: PLR0911  (one for each kind of object)
        """Remember what an object holds, and return it."""
        put_back = next((put_back for kinds, put_back in _PUT_BACK if isinstance(value, kinds)), None)
        if put_back is not None:
            before = items_of(value)
            self._undo.append((put_back, value, before))
            return self._with_attributes(value, before.values() if isinstance(before, dict) else before)
        if isinstance(value, tuple):
            return self._with_attributes(value, items_of(value))
        if isinstance(value, types.MappingProxyType):
            return list(value.values())
        if isinstance(value, types.FunctionType):
            self._seen[identity(value)] = value
            self._namespaces.look(value)
            return [content_of(cell) for cell in value.__closure__ or ()]
        if isinstance(value, types.MethodType):
            return [value.__self__, value.__func__]
        if isinstance(value, (ContextVar, Cache)):
            self._namespaces.look(value)
            return None
        if isinstance(value, (np.ndarray, array, bytearray)):
            self._remember_numbers(value)
            return None
        if isinstance(value, partial):
            return [value.func, *value.args, *value.keywords.values()]
        return self._remember_object(value)

    def _with_attributes(self, value: Any, items: Iterable[Any]) -> Iterable[Any]:
        """Remember the attributes of a container as well, if its class is the program's."""
        self._seen[identity(value)] = value
        return items if type(value).__module__ == "builtins" else (*items, *self._remember_attributes(value))

    def _remember_object(self, value: Any) -> Iterable[Any] | None:
        kind = type(value)
        if kind.__module__ in _OPAQUE:
            self._undo.append((self._check, value, None))
        if isinstance(value, (type, types.ModuleType)) or (
            kind.__module__.startswith(_FOREIGN) and not kind.__module__.startswith(_KEEPERS)
        ):
            return None
        self._seen[identity(value)] = value
        return self._remember_attributes(value)

    def _check(self, value: Any, _before: object) -> None:
        """Refuse to leave a fake tensor in what nothing can be taken from, such as the frame of a generator."""
        if self._namespaces.hold_fakes(value):
            raise DryRunError(f"dry run: {value!r} keeps a tensor of the dry run, which cannot be taken from it")

    def _remember_attributes(self, value: Any) -> list[Any]:
        attributes = getattr(value, "__dict__", None)
        inside: list[Any] = []
        if type(attributes) is dict:
            before = attributes.copy()
            self._undo.append((put_back_dict, attributes, before))
            inside.extend(before.values())
        if slots_of(type(value)):
            slots = Slots(value)
            held = slots.get()
            self._undo.append((put_back_place, slots, held))
            inside.extend(held.values())
        return inside

    def _remember_numbers(self, value: Any) -> None:
        """Remember an array of numbers, in which no dispatch mode sees a change."""
        self._seen[identity(value)] = value
        if isinstance(value, np.ndarray):
            if value.nbytes <= _LARGE and value.flags.writeable:
                self._undo.append((put_back_buffer, value, value.copy()))
        elif len(value) <= _LARGE:
            self._undo.append((put_back_buffer, value, value[:]))


def _put_back_entry(place: tuple[Any, str, Tensor], before: Tensor) -> None:
    table, name, stand_in = place
    if table.get(name) is stand_in:
        table[name] = before


def _order(remembered: tuple[Any, ModuleStates]) -> int:
    return remembered[1].order
