"""Which frame created an autograd node.

Autograd numbers its nodes in the order of creation. Noting the number at each push and pop of the module
stack cuts that sequence into intervals, one frame each; a backward operator belongs to the frame in whose
interval its node was created. That costs nothing per operator in forward.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opcount.scope.frame import Frame

CAPACITY = 1 << 20
"""Intervals kept. The oldest half is dropped beyond: only a graph that old would notice, and coverage says so."""


class Timeline:
    """Intervals of autograd sequence numbers, each with the frame that was on top.

    Attributes:
        last: Where the last interval begins; -1 before the first.
    """

    __slots__ = ("bounds", "capacity", "frames", "last")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.last = -1
        self.bounds: list[int] = []
        self.frames: list[Frame | None] = []

    def mark(self, number: int, frame: Frame | None) -> None:
        """Note that nodes from ``number`` on belong to ``frame``; None: that nobody looks."""
        bounds, frames = self.bounds, self.frames
        if self.last >= number:
            frames[-1] = frame
            return
        self.last = number
        bounds.append(number)
        frames.append(frame)
        if len(bounds) > self.capacity:
            del bounds[: self.capacity // 2], frames[: self.capacity // 2]

    def forget(self) -> None:
        """Forget all nodes created up to now."""
        self.last = -1
        self.bounds.clear()
        self.frames.clear()

    def find(self, number: int) -> Frame | None:
        """Return the frame in whose interval ``number`` lies, or None if it was not observed."""
        index = bisect_right(self.bounds, number)
        return self.frames[index - 1] if index else None
