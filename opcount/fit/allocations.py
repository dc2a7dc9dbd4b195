"""Log of the allocations of a run, as bytes, and its replay through the caching allocator's rules."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from opcount.fit.caching import CachingAllocator, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opcount.fit.caching import Block


@dataclass(frozen=True)
class Replay:
    """The end of a replay.

    Attributes:
        requested: The most bytes that were asked for and alive at once.
        allocated: The most bytes of blocks in use: what ``torch.cuda.max_memory_allocated`` returns.
        reserved: The most bytes of segments: what ``torch.cuda.max_memory_reserved`` returns.
        retries: Times that free segments were given back for want of room.
        fits: Whether everything was allocated.
    """

    requested: int
    allocated: int
    reserved: int
    retries: int
    fits: bool


@dataclass(frozen=True)
class AllocationLog:
    """Allocations and frees of storages on one device, in order.

    A positive event allocates so many bytes. ``-1 - 2 * n`` frees what was allocated ``n`` allocations before the last
    one, ``-2 - 2 * n`` number ``n`` of what was alive before: two steps that do the same are written alike. 0 is where
    a thread has multiplied for the first time, so that a library allocates a workspace for it.

    Attributes:
        before: Bytes of each storage that was alive at the start.
        events: The events, as 64-bit integers in the order of this machine.
        repeats: Steps that were left out, for they did what those before them did.
        cut: Events at the end that are left out, for there are too many.
    """

    before: tuple[int, ...] = ()
    events: bytes = b""
    repeats: int = 0
    cut: int = 0

    @classmethod
    def of(cls, before: Iterable[int], events: Sequence[int], repeats: int = 0, cut: int = 0) -> AllocationLog:
        """Return the log of some events.

        Example:
            >>> AllocationLog.of([512], [1024, 2048, -3, -2]).replay()
            Replay(requested=3584, allocated=3584, reserved=2097152, retries=0, fits=True)
        """
        return cls(tuple(before), array("q", events).tobytes(), repeats, cut)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the events."""
        return iter(memoryview(self.events).cast("q"))

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.events) // 8

    @property
    def workspaces(self) -> int:
        """The number of workspaces that libraries allocate in between."""
        return sum(not event for event in self)

    def find_fault(self) -> str:
        """Return why no program has done this; empty: one may have."""
        alive, number = {-2 - 2 * index for index in range(len(self.before))}, -1
        for event in self:
            if event > 0:
                number += 1
                alive.add(number)
            if event >= 0:
                continue
            freed = event if event % 2 == 0 else number + (event + 1) // 2
            if freed not in alive:
                return f"{event}, which frees what is not allocated"
            alive.remove(freed)
        return "" if all(size > 0 for size in self.before) else "a size of 0"

    def replay(self, capacity: int | None = None, workspaces: Sequence[int] = ()) -> Replay:
        """Return the end of the same allocations through the rules of the caching allocator.

        Args:
            capacity: Bytes for its segments; None: without a limit.
            workspaces: Bytes of what libraries allocate and never free: first those in between, in order; the others
                are allocated at the start.
        """
        allocator = CachingAllocator(capacity)
        later = workspaces[: self.workspaces]
        first = [*self.before, *workspaces[len(later) :]]
        try:
            self._run(allocator, [allocator.allocate(size) for size in first], list(later))
        except OutOfMemoryError:
            fits = False
        else:
            fits = True
        requested = sum(first) + max(accumulate(self._changes(list(later)), initial=0))
        return Replay(requested, allocator.most_allocated, allocator.most_reserved, allocator.retries, fits)

    def _run(self, allocator: CachingAllocator, before: list[Block], workspaces: list[int]) -> None:
        made: dict[int, Block] = {}
        number = -1
        for event in self:
            if event > 0:
                number += 1
                made[number] = allocator.allocate(event)
            elif event % 2:
                allocator.free(made.pop(number + (event + 1) // 2))
            elif event:
                allocator.free(before[-1 - event // 2])
            elif workspaces:
                allocator.allocate(workspaces.pop(0))

    def most_made(self) -> int:
        """Return the most bytes, alive at once, of what was allocated since the start."""
        return max(accumulate(self._changes([], of_before=False), initial=0))

    def _changes(self, workspaces: list[int], *, of_before: bool = True) -> Iterator[int]:
        """Yield the change of the live bytes by each event; without those of what was before, 0 for its frees."""
        made: dict[int, int] = {}
        number = -1
        for event in self:
            if event > 0:
                number += 1
                made[number] = event
                yield event
            elif event % 2:
                yield -made.pop(number + (event + 1) // 2)
            elif event:
                yield -self.before[-1 - event // 2] if of_before else 0
            elif workspaces:
                yield workspaces.pop(0)
