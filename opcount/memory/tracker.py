"""Tracker of storages: which are alive, by weak references, and in which row each is accounted.

A storage that dies only puts its reference in a queue, in C: no code of ours runs where a program frees memory. The
queue is emptied before the next allocation is accounted, so that no peak is missed and none is made up.
"""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from opcount._torch.dispatch import METHODS
from opcount.identity import identity
from opcount.interceptor.calls import is_fake
from opcount.interceptor.storages import storage_of, storages_of
from opcount.interceptor.symbolic import size_of
from opcount.live_memory import BEFORE, INPUTS, OUTPUTS, PARAMETERS, SAVED, TEMPORARIES
from opcount.memory.ledger import Ledger, LiveRow
from opcount.memory.recording import AllocationRecorder
from opcount.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opcount.interceptor.plan import Plan
    from opcount.scope import Frame

_memory_of: Callable[[Tensor], Any] = METHODS.untyped_storage
"""Returns the storage of a tensor; what a dry run puts in the place of the method is not asked."""

_NUMBERS = {int, float, bool}

_NO_TENSORS = {*_NUMBERS, type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format}
"""Classes of arguments that hold no tensor."""

VAGUE = {TEMPORARIES, SAVED, INPUTS, OUTPUTS}
"""Categories of what may turn out to be something else."""

_address: Callable[[Any], int] = hash
"""Return the number of a storage: their class hashes as objects do, and this takes half the time of `identity`."""


class Held(weakref.ref[Any]):
    """Weak reference to a storage that is accounted.

    Attributes:
        key: The ``id`` of the object that stands for it in Python, which lives as long.
        size: Its bytes.
        row: Where they are accounted.
        event: The number of its allocation; 0 if it was alive before.
    """

    __slots__ = ("event", "key", "row", "size")

    key: int
    size: int
    row: LiveRow
    event: int


class Tracker:
    """Storages of one block that are alive.

    Args:
        dry: Whether fake tensors stand for all: they are on one device.
        logs: Whether the order of allocations is kept.
        device: Its name, of a dry run for one that is not there.

    Attributes:
        device: See above.
        held: By the ``id`` of the storage.
        ledgers: By device; None in a dry run.
    """

    def __init__(self, *, dry: bool, logs: bool = False, device: str = "") -> None:
        self._logs, self.device = logs, device
        self.held: dict[int, Held] = {}
        self.ledgers: dict[Any, Ledger] = {}
        self._dead: deque[Held] = deque()
        self._bury = self._dead.append
        self._dry = dry
        self._plain: dict[type, bool] = {Tensor: True, Parameter: True}
        self._leaves: dict[int, weakref.ref[Tensor]] = {}
        self._home: Ledger | None = None
        self._recent = Ledger()
        self._elders = set(_addresses())

    def see(  # noqa: C901, PLR0912  (in parts, each would cost a call)
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: Any, frame: Frame, phase: str
    ) -> None:
        """Account what an operator has returned, and what it was given that is met for the first time."""
        if self._dead:
            self.settle()
        held, plain = self.held, self._plain
        for value in args:
            kind = type(value)
            if kind in plain:
                try:
                    storage = _memory_of(value)
                except (NotImplementedError, RuntimeError):  # it is sparse
                    self._look_into(value, (frame, plan, phase, TEMPORARIES))
                    continue
                if _address(storage) not in held:
                    self._meet(value, storage, (frame, plan, phase, TEMPORARIES))
            elif kind not in _NO_TENSORS and (kind is not list or (value and type(value[0]) not in _NUMBERS)):
                self._look_into(value, (frame, plan, phase, TEMPORARIES))
        if kwargs:
            for value in kwargs.values():
                if type(value) not in _NO_TENSORS:
                    self._look_into(value, (frame, plan, phase, TEMPORARIES))
        if type(out) in plain:
            try:
                storage = _memory_of(out)
                address = _address(storage)
                known = held.get(address)
                if known is None:
                    ledger = self._home if out.is_cpu else None  # which takes less time than to ask for the device
                    if ledger is not None or not (self._dry and _is_on_meta(out)):
                        self._allocated(storage, address, (frame, plan, phase, TEMPORARIES), ledger)
                    return
                if kwargs or (args and out is args[0]):
                    size = storage.nbytes()
                    if type(size) is not int or size != known.size:
                        self._written(known, size_of(size), (frame, plan, phase, TEMPORARIES))
            except (NotImplementedError, RuntimeError):
                self._made(out, (frame, plan, phase, TEMPORARIES))
        elif out is not None:
            self._made(out, (frame, plan, phase, TEMPORARIES))
        recent = self._recent
        row = recent.rows.get((frame, plan, phase, TEMPORARIES))
        if row is None or recent.live > row.high:
            recent.row((frame, plan, phase, TEMPORARIES)).touch()

    def _made(self, out: Any, key: Any) -> None:
        """Account the results of an operator that are not one strided tensor."""
        for tensor in out if type(out) is tuple else (out,):
            if type(tensor) in self._plain:
                try:
                    self._returned(tensor, _memory_of(tensor), key)
                    continue
                except (NotImplementedError, RuntimeError):
                    pass
            for part in self._tensors(tensor):
                for storage in self._storages(part):
                    self._returned(part, storage, key)

    def _returned(self, tensor: Tensor, storage: Any, key: Any) -> None:
        address = _address(storage)
        known = self.held.get(address)
        if known is None:
            ledger = self._home if tensor.is_cpu else None
            if ledger is not None or not (self._dry and _is_on_meta(tensor)):
                self._allocated(storage, address, key, ledger)
        else:
            self._written(known, size_of(storage.nbytes()), key)

    def end_step(self) -> None:
        """End a step of a loop, in the logs."""
        self.settle()
        for ledger in list(self.ledgers.values()):
            if ledger.log is not None:
                ledger.log.end_step()

    def settle(self) -> None:
        """Account what has died."""
        dead, held = self._dead, self.held
        while dead:
            try:
                gone = dead.popleft()
            except IndexError:  # another thread was here
                return
            row, key = gone.row, gone.key
            ledger = row.ledger
            ledger.remove(row, gone.size)
            if ledger.log is not None:
                ledger.log.freed(key)
            if held.get(key) is gone:
                del held[key]

    def elder(self, tensor: Tensor, place: Any, category: str) -> None:
        """Account a tensor that was alive before; one that is known only gets the category."""
        for storage in self._storages(tensor):
            known = self.held.get(_address(storage))
            if known is None:
                self._found(storage, (place, None, BEFORE, category))
            else:
                self.move(known, place, category)

    def has_category(self, tensor: Any) -> bool:
        """Return whether it is known what a tensor is for, and so that its category stays; for others False."""
        if type(tensor) not in self._plain:
            return False
        try:
            held = self.held.get(_address(_memory_of(tensor)))
        except (NotImplementedError, RuntimeError):
            return False
        return held is not None and held.row.key[3] not in VAGUE

    def known(self, tensor: Tensor) -> list[Held]:
        """Return what is held of a tensor."""
        held = self.held
        if type(tensor) in self._plain:
            try:
                found = held.get(_address(_memory_of(tensor)))
            except (NotImplementedError, RuntimeError):
                pass
            else:
                return [] if found is None else [found]
        addresses = map(_address, self._storages(tensor))
        return [held[address] for address in addresses if address in held]

    @staticmethod
    def move(held: Held, place: Any, category: str) -> None:
        """Account a storage in another category, of the module that owns it; None: of the one that made it."""
        row = held.row
        maker, plan, phase, before = row.key
        key = (maker if place is None else place, plan, phase, category)
        if before != category:
            held.row = row.ledger.row(key)
            row.ledger.move(row, held.row, held.size, held.event)

    def leaves(self) -> list[Tensor]:
        """Return the tensors that are alive of which a backward may set the gradient."""
        return [tensor for leaf in list(self._leaves.values()) if (tensor := leaf()) is not None]

    def add_leaf(self, tensor: Tensor) -> None:
        """Look at a tensor's gradient after each backward."""
        if tensor.requires_grad and tensor.is_leaf:
            self._leaves[identity(tensor)] = weakref.ref(tensor)

    def _meet(self, tensor: Tensor, storage: Any, key: Any) -> None:
        """Account a storage that an operator was given and that no operator has made."""
        if self._dry and _is_on_meta(tensor):
            return
        self.add_leaf(tensor)
        address = _address(storage)
        is_parameter = isinstance(tensor, Parameter)
        is_twin = is_parameter and is_fake(type(tensor))  # made when a module is first called in a dry run
        if is_twin or address in self._elders:
            self._elders.discard(address)
            place, category = (key[0], PARAMETERS) if is_parameter else (ROOT, INPUTS)
            self._found(storage, (place, None, BEFORE, category))
        else:  # native code has made it, or this thread's counter was not looking
            self._allocated(storage, address, key)

    def _allocated(self, storage: Any, address: int, key: Any, ledger: Ledger | None = None) -> None:
        if ledger is None:
            ledger = self._ledger(None if self._dry else storage.device)
        size = storage.nbytes()
        if type(size) is not int:
            size = size_of(size)
        try:
            row = ledger.rows[key]
        except KeyError:
            row = ledger.row(key)
        held = Held(storage, self._bury)
        held.key, held.size, held.row = address, size, row
        self._recent = ledger
        if self.held.setdefault(address, held) is held:  # else another thread was faster
            held.event = ledger.add(row, size)
            if ledger.log is not None:
                ledger.log.made(address, size)
                if key[1] is not None and key[1].family == "matmul":
                    ledger.log.multiplied(key[2])

    def _found(self, storage: Any, key: Any) -> None:
        """Account a storage that was alive before."""
        held = Held(storage, self._bury)
        held.key = _address(storage)
        held.size = size_of(storage.nbytes())
        held.event = 0
        held.row = self._ledger(None if self._dry else storage.device).row(key)
        if self.held.setdefault(held.key, held) is held:
            ledger = held.row.ledger
            ledger.find(held.row, held.size)
            if ledger.log is not None:
                ledger.log.found(held.key, held.size)

    def _written(self, held: Held, size: int, key: Any) -> None:
        """Account a change of a storage's size, as a new allocation in the place of the old one."""
        if size != held.size:
            ledger, row = held.row.ledger, held.row
            ledger.remove(row, held.size)
            held.row = row if row.key[3] != TEMPORARIES else ledger.row(key)
            held.size = size
            held.event = ledger.add(held.row, size)
            if ledger.log is not None:
                ledger.log.resized(held.key, size)

    def _ledger(self, device: Any) -> Ledger:
        """Return the account of a device; None stands for all that a dry run has."""
        ledger = self.ledgers.get(device)
        if ledger is None:
            ledger = self.ledgers.setdefault(device, Ledger(AllocationRecorder() if self._logs else None))
            if device is None or device.type == "cpu":
                self._home = ledger
        return ledger

    def _look_into(self, value: Any, key: Any) -> None:
        for tensor in self._tensors(value):
            for storage in self._storages(tensor):
                if _address(storage) not in self.held:
                    self._meet(tensor, storage, key)

    def _tensors(self, value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            for item in value:
                if type(item) in self._plain:
                    yield item
                else:
                    yield from self._tensors(item)

    def _storages(self, tensor: Tensor) -> Iterable[Any]:
        """Return the storages of a tensor: one, but for sparse tensors, wrappers and the like."""
        kind = type(tensor)
        if kind in self._plain:
            try:
                return (_memory_of(tensor),)
            except (NotImplementedError, RuntimeError):
                return storages_of(tensor)
        if is_fake(kind):
            self._plain[kind] = True
        return storages_of(tensor)


def _is_on_meta(tensor: Tensor) -> bool:
    """Return whether a fake tensor, or a subclass that wraps one, is on the meta device: it needs no memory."""
    if is_fake(type(tensor)):
        return bool(tensor.device.type == "meta")
    return hasattr(tensor, "__tensor_flatten__") and tensor.is_meta


def _addresses() -> Iterator[int]:
    """Yield the storages of all tensors that there are: a look at all objects of the process."""
    for value in gc.get_objects():
        if issubclass(type(value), Tensor):
            storage = storage_of(value)
            if storage is not None:
                yield _address(storage)
