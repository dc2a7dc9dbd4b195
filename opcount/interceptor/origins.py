"""Origins of the memory of tensors: it was written by an operator that was seen, or by nobody known.

Native code (pybind, ctypes, NumPy, Triton launched by hand) passes no dispatcher. It shows in what it leaves behind:
memory that PyTorch allocated uninitialised and that no operator filled, or that PyTorch did not allocate at all.
Operators are looked at for that only inside an ``autograd.Function`` or an operator that is opened, and elsewhere for
as long as there is uninitialised memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from opcount._torch.stand_ins import is_own_memory
from opcount._torch.tensors import storage_key
from opcount.coverage import FREE
from opcount.interceptor.calls import tensors
from opcount.interceptor.contents import is_filled_with, is_of_lengths
from opcount.interceptor.effects import EffectKind, effect_of
from opcount.interceptor.stack import dry_runs
from opcount.interceptor.storages import (
    Storages,
    has_values,
    print_of,
    revive,
    storage_of,
    storages_of,
    weights,
)
from opcount.interceptor.symbolic import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.interceptor.effects import Effect
    from opcount.scope import Scope


class Origin(Enum):
    """Source of the numbers in a storage."""

    __hash__ = object.__hash__  # that of an Enum takes longer

    BLANK = auto()
    """Nothing has been written into memory that an operator allocated."""
    CONSTANT = auto()
    """Filled with one number."""
    COPY = auto()
    """Copied."""
    DATA = auto()
    """Numbers of Python."""
    FOREIGN = auto()
    """Memory that PyTorch did not allocate, such as an array of NumPy, or computed from such."""
    TABLE = auto()
    """Array that holds nothing of what is watched: no tensor was turned into an array before."""
    TAINTED = auto()
    """Computed from memory that no operator is known to have written."""
    WORK = auto()
    """Computed."""


_SWEEP = 32
"""Operators after which memory that is gone is forgotten."""

_SEARCHES = 100

DOUBTFUL = (Origin.TAINTED, Origin.FOREIGN, Origin.TABLE)
_FROM_WORST = (*DOUBTFUL, Origin.BLANK)
_COMPUTED = {Origin.WORK, Origin.COPY}


class Watched(Protocol):
    """A call whose operators are looked at.

    Attributes:
        known: The storages that it was given.
    """

    known: set[int]

    def may_be_in_arrays(self) -> bool:
        """Return whether an array may hold what was computed from tensors of the call."""


class State:
    """Knowledge about one storage.

    Attributes:
        origin: How its numbers came about.
        tick: When it was written last.
        made: The operator that allocated it.
        filled: How many elements were put into uninitialised memory.
        value: The number that it was filled with.
        source: What it was copied from, if that is worth a comparison.
        print: Some of its bytes as they were, where they can be looked at.
    """

    __slots__ = ("filled", "made", "origin", "print", "source", "tick", "value")

    def __init__(self, origin: Origin, tick: int, made: str = "", print_: bytes | None = None) -> None:
        self.origin = origin
        self.tick = tick
        self.made = made
        self.print = print_
        self.filled = 0
        self.value: Any = None
        self.source: Tensor | None = None


class Origins:
    """Knowledge about storages on one thread of one count.

    Args:
        scope: Of the thread: it is asked to tell what modules return.
        name: Names native code as uncounted, with what it has written.

    Attributes:
        active: Whether operators are to be noted.
        states: By storage.
        tick: The number of operators that were looked at.
    """

    def __init__(self, scope: Scope, name: Callable[[str, Any], None]) -> None:
        self.active = False
        self._scope = scope
        self._charge = name
        self.states: Storages[State] = Storages()
        self.tick = 0
        self._calls: list[Watched] = []
        self._searches = 0
        self._doubts = False
        """True if any storage may hold numbers that no operator is known to have computed."""

    def begin(self, call: Watched) -> None:
        """Look at every operator until `end`."""
        self._calls.append(call)
        self._attend()

    def end(self, call: Watched) -> None:
        """Forget what is of no interest to those that still watch."""
        self._calls = [other for other in self._calls if other is not call]
        if not self._calls:
            self.forget_uninteresting()

    def forget_uninteresting(self) -> None:
        """Forget what is of no interest to those that still watch."""
        if not self._calls:
            blank = Origin.BLANK
            for key in [key for key, state in self.states.items() if state.origin is not blank]:
                self.states.drop(key)
            self._rest()

    def close(self) -> None:
        """Name what native code has written into and the program keeps, and forget everything."""
        for key, state in list(self.states.items()):
            storage = revive(key) if state.origin is Origin.BLANK else None
            if storage is not None and state.print is not None and state.print != print_of(storage):
                self._name(state, None)
        self.states.drop_all()
        self._rest()

    def forget(self) -> None:
        """Forget what was allocated: what happens next is not looked at."""
        if not self._calls:
            self.states.drop_all()
            self._rest()

    def _attend(self) -> None:
        self.active = True
        self._scope.returned = self.returned

    def _rest(self) -> None:
        if not self.states and not self._calls:
            self.active = self._doubts = False
            self._scope.returned = None

    def allocated(self, operator: str, out: Any) -> None:
        """Take note of memory that an operator left as it was."""
        if not (self._calls or has_values(out)):
            return
        storage = storage_of(out)
        if storage is None or not size_of(out.numel()) or storage_key(storage) in self.states:
            return
        self._doubts = True
        self.states.put(storage, State(Origin.BLANK, self.tick, operator, print_of(storage)))
        self._attend()

    def returned(self, out: Any) -> None:
        """Take note of what a module returns."""
        values = out.values() if isinstance(out, Mapping) else (out,)
        self._name_blanks([tensor for tensor in tensors(values) if self._behind(tensor) is not None])

    def lifted(self, out: Tensor) -> None:
        """Take note of a tensor that was made of Python's numbers, or of an array of NumPy."""
        storage = storage_of(out) if self._calls else None
        if storage is not None and storage_key(storage) not in self.states:
            if is_own_memory(storage):
                self._doubts = True
                self.states.put(storage, State(Origin.DATA, self.tick, print_=print_of(storage)))
                return
            self._doubts = True
            is_read = any(call.may_be_in_arrays() for call in self._calls)
            self.states.put(storage, State(Origin.FOREIGN if is_read else Origin.TABLE, self.tick))

    def note(self, operator: str, family: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of an operator that has run."""
        self.tick += 1
        if not self._calls and self.tick % _SWEEP == 0:
            self.states.drop_dead()
            self._rest()
        effect = effect_of(operator, family == FREE)
        if effect.kind is EffectKind.BLANK or (self._calls and effect.views):
            return
        if not self._doubts and effect.computes and self._calls and type(out) is Tensor:
            storage = storage_of(out)
            if storage is not None:
                self.states.put(storage, State(Origin.WORK, self.tick))
                return
        read, written = effect.split(out, args, kwargs)
        origin = self._origin(effect, read, written)
        if origin is Origin.TAINTED and not self._calls:
            self._name_blanks(read)
        before = {storage_key(storage) for storage in map(storage_of, (*read, *written)) if storage is not None}
        for tensor in written:
            self._write(effect, origin, tensor, read, args)
        if self._calls or origin is Origin.BLANK:
            for storage in self._made(out):
                if storage_key(storage) not in before:
                    self._put(storage, self._state(effect, origin, read, args))
        self._rest()

    @staticmethod
    def _made(out: Any) -> Iterator[Any]:
        for tensor in tensors((out,)):
            storage = storage_of(tensor)
            yield from storages_of(tensor) if storage is None else (storage,)

    def _origin(self, effect: Effect, read: list[Tensor], written: list[Tensor]) -> Origin:
        """Return how the results of an operator came about."""
        if effect.kind is EffectKind.CONSTANT:
            return Origin.CONSTANT
        if effect.kind not in {EffectKind.COPY, EffectKind.WORK}:
            return Origin.WORK
        states = [self._behind(tensor) for tensor in read]
        own = [self._behind(tensor) for tensor in written]
        for tensor, state in zip(read, states, strict=True):
            if state is not None and state not in own and _reads_otherwise(tensor, state):
                return Origin.TAINTED
        return _of_copies(read, states) if effect.kind is EffectKind.COPY else _of_work(states)

    def _behind(self, tensor: Tensor) -> State | None:
        """Return the state of what a tensor holds; None if that is nothing, or a single number from elsewhere."""
        storage = storage_of(tensor)
        state = None if storage is None else self.states.get(storage_key(storage))
        if state is None or (state.origin is Origin.FOREIGN and size_of(tensor.numel()) == 1):
            return None
        return None if state.origin is Origin.BLANK and size_of(tensor.numel()) <= state.filled else state

    def _state(self, effect: Effect, origin: Origin, read: list[Tensor], args: tuple[Any, ...]) -> State:
        state = State(origin, self.tick)
        if origin is Origin.CONSTANT:
            state.value = effect.constant(args)
            if state.value is None:
                state.origin = Origin.WORK
        elif origin is Origin.BLANK:
            state.made = next((known.made for known in map(self._behind, read) if known is not None), "")
        elif origin is Origin.COPY and effect.plain and len(read) == 1:
            storage = storage_of(read[0])
            if self._calls and storage is not None and storage_key(storage) in self._calls[-1].known:
                state.source = read[0]
        return state

    def _write(self, effect: Effect, origin: Origin, tensor: Tensor, read: list[Tensor], args: tuple[Any, ...]) -> None:
        storage = storage_of(tensor)
        if storage is None or (origin is Origin.BLANK and effect.overwrites):
            return
        state = self.states.get(storage_key(storage))
        if not self._calls:
            if state is not None:
                self.states.drop(storage_key(storage))
            return
        if effect.overwrites and origin not in DOUBTFUL and not _fill(tensor.numel(), tensor, storage):
            if state is not None and state.origin is Origin.BLANK:
                state.filled += size_of(tensor.numel())
                if not _fill(state.filled, tensor, storage):
                    return
            elif state is not None and state.origin in DOUBTFUL:
                return
            origin = Origin.WORK
        self._put(storage, self._state(effect, origin, read, args))

    def _put(self, storage: Any, state: State) -> None:
        """Say something about a storage; what native code may change unseen is compared when it is read."""
        if state.source is not None:
            state.print = print_of(storage)
        self._doubts = self._doubts or state.origin is Origin.CONSTANT or state.source is not None
        self.states.put(storage, state)

    def _name_blanks(self, read: list[Tensor]) -> None:
        """Name what native code must have written, once; not the weights that a program has left uninitialised."""
        found = {}
        for tensor in read:
            storage = storage_of(tensor)
            state = None if storage is None else self.states.get(storage_key(storage))
            if state is not None and state.origin is Origin.BLANK and not (tensor.is_leaf and tensor.requires_grad):
                found[storage_key(storage)] = (state, tensor)
        if any(state.print in {None, print_of(revive(key))} for key, (state, _) in found.items()):
            self._forget_weights()
        for key in found.keys() & self.states.keys():
            self.states.drop(key)
            if not is_of_lengths(found[key][1]):
                self._name(*found[key])
        self._rest()

    def _forget_weights(self) -> None:
        """Forget parameters, and buffers that hold what they held; a few times only, for it takes long."""
        self._searches += 1
        if self._searches > _SEARCHES:
            return
        parameters, buffers = weights()
        for key in (parameters | buffers) & self.states.keys():
            state = self.states[key]
            if state.origin is Origin.BLANK and (key in parameters or state.print == print_of(revive(key))):
                self.states.drop(key)

    def _name(self, state: State, written: Any) -> None:
        self._charge(f"native code into {state.made}", written)

    def known(self) -> set[int]:
        """Return the storages of which something is known."""
        return set(self.states)

    def forget_all_but(self, known: set[int]) -> None:
        """Forget the memory that was allocated meanwhile: whoever writes to it is known."""
        for key in set(self.states) - known:
            self.states.drop(key)
        self.forget_uninteresting()


def _reads_otherwise(tensor: Tensor, state: State) -> bool:
    """Return whether an operator reads other numbers than were put there, and no operator has changed them."""
    if state.origin is Origin.CONSTANT:
        if not tensor.is_cpu or dry_runs():  # a look makes the program wait; nothing writes to real memory
            return False
        return not is_filled_with(tensor, state.value)
    is_printed = state.origin in {Origin.COPY, Origin.DATA} and state.print is not None
    return is_printed and state.print != print_of(storage_of(tensor))


def _of_work(states: list[State | None]) -> Origin:
    """Return the origin of what an operator computed from memory of which something is known, or nothing."""
    found = {state.origin for state in states if state is not None}
    if found & {Origin.TAINTED, Origin.BLANK}:
        return Origin.TAINTED
    if Origin.FOREIGN in found:
        return Origin.FOREIGN
    is_of_tables_alone = Origin.TABLE in found and None not in states and not found & _COMPUTED
    return Origin.TABLE if is_of_tables_alone else Origin.WORK


def _of_copies(read: list[Tensor], states: list[State | None]) -> Origin:
    """Return the origin of what an operator copied: the worst of all that it read."""
    states = _without_indices(read, states)
    found = {state.origin for state in states if state is not None}
    worst = next((origin for origin in _FROM_WORST if origin in found), None)
    if worst is not None:
        return worst
    return Origin.DATA if found == {Origin.DATA} and None not in states else Origin.COPY


def _without_indices(read: list[Tensor], states: list[State | None]) -> list[State | None]:
    """Return the knowledge about what a copy reads but tables of integers beside other numbers: these say where to."""
    moves = any(_has_fractions(tensor) for tensor in read)
    return [
        state
        for tensor, state in zip(read, states, strict=True)
        if not (moves and state is not None and state.origin is Origin.TABLE and not _has_fractions(tensor))
    ]


def _has_fractions(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _fill(elements: int, tensor: Tensor, storage: Any) -> bool:
    """Return whether so many elements of a tensor are all of its storage."""
    return bool(size_of(elements * tensor.itemsize) >= size_of(storage.nbytes()))
