"""Timeline of autograd: the frame that created a node.

Autograd numbers its nodes in the order of creation. Noting the number at each push and pop of the module
stack cuts that sequence into intervals, one frame each; a backward operator belongs to the frame in whose
interval its node was created. That costs nothing per operator in forward.
"""

from __future__ import annotations

from bisect import bisect_right

from opcount.scope.frame import Frame

CAPACITY = 1 << 20
"""Intervals kept. The oldest half is dropped beyond: only a graph that old would notice, and coverage says so."""

_NOWHERE = Frame("")

_NEAR = 8
"""Intervals among which the next node of a backward mostly lies."""


class Timeline:
    """Intervals of autograd sequence numbers, each with the frame that was on top.

    Attributes:
        last: Where the last interval begins; -1 before the first.
        below: Where an interval begins that was found, that of a frame and not the newest: it does not change any more.
        above: Where that interval ends; 0 if there is none.
        found: Its frame.
    """

    __slots__ = ("_index", "above", "below", "bounds", "capacity", "found", "frames", "last")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.bounds: list[int] = []
        self.frames: list[Frame | None] = []
        self.last = -1
        self.forget()

    def mark(self, number: int, frame: Frame | None) -> None:
        """Note that nodes from ``number`` on belong to ``frame``; None: that nobody looks."""
        bounds, frames = self.bounds, self.frames
        if self.last >= number:
            frames[-1] = frame
            return
        if bounds and frames[-1] is frame:
            return
        frames[len(bounds) :] = (frame,)  # in the place of one that an interrupt kept from getting its number
        bounds.append(number)
        self.last = number
        if len(bounds) > self.capacity:
            del bounds[: self.capacity // 2], frames[: self.capacity // 2]

    def repair(self) -> None:
        """Forget all if an interrupt came between the two steps of `mark`."""
        if len(self.bounds) != len(self.frames):
            self.forget()

    def forget(self) -> None:
        """Forget all nodes created up to now."""
        self.last = -1
        self.bounds.clear()
        self.frames.clear()
        self.below = self.above = self._index = 0
        self.found: Frame = _NOWHERE

    def knows(self, number: int) -> bool:
        """Return whether a node was created under observation; unlike `find`, thread-safe."""
        index = bisect_right(self.bounds, number)
        return bool(index) and self.frames[index - 1] is not None

    def find(self, number: int) -> Frame | None:
        """Return the frame in whose interval ``number`` lies, or None if it was not observed.

        A backward comes to the nodes one after the other: the next interval is looked for right before the last.
        """
        bounds = self.bounds
        if number >= self.last:
            return self.frames[-1] if bounds else None
        near, end = self._index - _NEAR, self._index
        if near >= 0 and end < len(bounds) and bounds[near] <= number < bounds[end]:
            index = bisect_right(bounds, number, near, end)
        else:
            index = bisect_right(bounds, number)
        if not index:
            return None
        frame = self.frames[index - 1]
        self._index = index
        if frame is not None:
            self.below, self.above, self.found = bounds[index - 1], bounds[index], frame
        return frame
