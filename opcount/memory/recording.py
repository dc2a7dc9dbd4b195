"""Recording of the allocations of one device in their order, in bounded memory; steps that repeat are left out."""

from __future__ import annotations

from array import array

from opcount.fit.allocations import AllocationLog
from opcount.scope import BACKWARD, RECOMPUTE

_LIMIT = 1 << 21
"""The most events that are kept: 16 MiB."""

_OTHER_THREAD = {BACKWARD, RECOMPUTE}

_ALIKE = 3
"""Steps that have to be alike before the last of them is left out."""


class AllocationRecorder:
    """Allocations and frees of one device; see `AllocationLog` for how they are written."""

    def __init__(self) -> None:
        self._before: list[int] = []
        self._begin()

    def _begin(self) -> None:
        self._events: array[int] = array("q")
        self._alive: dict[int, tuple[int, int]] = {}  # by address: number, or -1 - index in what was before; bytes
        self._made = self._repeats = self._cut = 0
        self._ends: list[tuple[int, int]] = [(0, 0)]
        self._threads: set[bool] = set()

    def found(self, address: int, size: int) -> None:
        """Record a storage that has been alive from the start."""
        if size:
            self._before.append(size)
            self._alive[address] = -len(self._before), size

    def made(self, address: int, size: int) -> None:
        """Record an allocation."""
        if not size:
            return
        if len(self._events) >= _LIMIT:
            self._cut += 1
            return
        self._events.append(size)
        self._alive[address] = self._made, size
        self._made += 1

    def multiplied(self, phase: str) -> None:
        """Record a product, whose library allocates a workspace for each thread; backward has one of its own."""
        thread = phase in _OTHER_THREAD
        if thread not in self._threads and len(self._events) < _LIMIT:
            self._threads.add(thread)
            self._events.append(0)

    def freed(self, address: int) -> None:
        """Record a free."""
        known = self._alive.pop(address, None)
        if known is not None:
            self._free(known[0])

    def resized(self, address: int, size: int) -> None:
        """Record a change of size: a new allocation, and then the free of the old one."""
        old = self._alive.pop(address, None)
        self.made(address, size)
        if old is not None:
            self._free(old[0])

    def _free(self, number: int) -> None:
        self._events.append(-1 - 2 * (self._made - 1 - number) if number >= 0 else 2 * number)

    def restart(self) -> None:
        """Take what is alive now for the start."""
        alive = sorted(self._alive.items(), key=lambda each: each[1][0])
        self._begin()
        self._before = []
        for address, (_, size) in alive:
            self.found(address, size)

    def end_step(self) -> None:
        """End a step: where three were alike and nothing of the first is left, the last one is forgotten."""
        ends = self._ends
        ends.append((len(self._events), self._made))
        if len(ends) <= _ALIKE:
            return
        (first, oldest), (second, after), (third, last), (end, _) = ends[-_ALIKE - 1 :]
        events = self._events
        alike = events[first:second] == events[second:third] == events[third:end]
        if not alike or self._cut or any(oldest <= number < after for number, _ in self._alive.values()):
            del ends[:-_ALIKE]
            return
        del events[third:], ends[-1]
        shift = self._made - last
        self._made = last
        self._repeats += 1
        for address, (number, size) in self._alive.items():
            if number >= after:
                self._alive[address] = number - shift, size

    def log(self) -> AllocationLog:
        """Return what was recorded so far."""
        return AllocationLog.of(self._before, self._events, self._repeats, self._cut)
