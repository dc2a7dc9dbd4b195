"""Account of the live bytes of one device, by row, with the exact breakdown at the peak in constant time an event.

A new peak copies nothing: it only gets a number. A row that changes later first keeps what it had at that peak.
Several threads may write: a switch comes between calls, and no method calls anything while its sums do not agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opcount.memory.recording import AllocationRecorder

_NEVER = -(1 << 62)

_POINTS = 256
"""The most points of a curve."""


class LiveRow:
    """Live bytes that were made in one place.

    Attributes:
        ledger: The account that it belongs to.
        key: ``(place, plan, phase, category)``.
        live: Bytes now.
        at_peak: Bytes at the peak whose number is ``stamp``; at later ones they are ``live``.
        stamp: See ``at_peak``.
        high: The most live bytes of the whole account when one of these was made.
    """

    __slots__ = ("at_peak", "high", "key", "ledger", "live", "stamp")

    def __init__(self, ledger: Ledger, key: Any) -> None:
        self.ledger = ledger
        self.key = key
        self.live = self.at_peak = 0
        self.stamp = ledger.peaks
        self.high = _NEVER

    @property
    def was_touched(self) -> bool:
        """True if an operator has run here since the start."""
        return self.high > _NEVER

    def touch(self) -> None:
        """Note that an operator has run here that has allocated nothing."""
        live = self.ledger.live
        if live > self.high:  # noqa: PLR1730  (max takes five times as long)
            self.high = live


class Ledger:
    """Account of one device.

    Args:
        log: Told of what is allocated and freed; None: nobody asks for the order.

    Attributes:
        base: Bytes that were alive at the start: an offset to all the others.
        live: Bytes now.
        peak: The most so far.
        peaks: Number of the last peak.
        events: Allocations so far.
        start: Allocations before the start.
        peak_event: The number of the allocation at the last peak.
        rows: By ``(place, plan, phase, category)``.
        saved: Live bytes of a category by row, when they were most; see `note`.
        log: The recorder.
    """

    def __init__(self, log: AllocationRecorder | None = None) -> None:
        self.log = log
        self.saved: dict[LiveRow, int] = {}
        self.rows: dict[Any, LiveRow] = {}
        self.base = self.live = self.peak = 0
        self.peaks = self.start = self.events = self.peak_event = 0
        self._restart_curve()

    def _restart_curve(self) -> None:
        self._points: list[int] = []
        self._stride, self._end = 1, self.events + 1
        self._crest = self.live

    def restart(self) -> None:
        """Take what is alive now for the start."""
        self.base += self.live
        self.live = self.peak = 0
        self.peaks += 1
        self.peak_event = self.start = self.events
        self.saved = {}
        for row in list(self.rows.values()):
            row.high = _NEVER
        self._restart_curve()
        if self.log is not None:
            self.log.restart()

    def row(self, key: Any) -> LiveRow:
        """Return the row of a place, made at its first use."""
        row = self.rows.get(key)
        return self.rows.setdefault(key, LiveRow(self, key)) if row is None else row

    def add(self, row: LiveRow, size: int) -> int:
        """Add bytes that were allocated; return the number of the allocation."""
        if row.stamp != self.peaks:
            row.at_peak = row.live
            row.stamp = self.peaks
        self.events = event = self.events + 1
        row.live += size
        self.live = live = self.live + size
        if live > row.high:  # noqa: PLR1730  (max takes five times as long)
            row.high = live
        if live > self._crest:
            self._crest = live
            if live > self.peak:
                self.peak = live
                self.peaks += 1
                self.peak_event = event
        if event >= self._end:
            self._end_stretch(event)
        return event

    def remove(self, row: LiveRow, size: int) -> None:
        """Remove bytes that were freed."""
        if row.stamp != self.peaks:
            row.at_peak = row.live
            row.stamp = self.peaks
        row.live -= size
        self.live -= size

    def find(self, row: LiveRow, size: int) -> None:
        """Add bytes that have been alive from the start."""
        if row.stamp != self.peaks:
            row.at_peak = row.live
            row.stamp = self.peaks
        row.live += size
        row.at_peak += size
        self.base += size

    def move(self, row: LiveRow, other: LiveRow, size: int, event: int) -> None:
        """Move live bytes to another row, also in the last peak if they were allocated by then."""
        peaks = self.peaks
        if row.stamp != peaks:
            row.at_peak = row.live
            row.stamp = peaks
        if other.stamp != peaks:
            other.at_peak = other.live
            other.stamp = peaks
        row.live -= size
        other.live += size
        if event <= self.peak_event:
            row.at_peak -= size
            other.at_peak += size

    def note(self, category: str) -> None:
        """Keep the live bytes of a category by row, if there were never more when this was called."""
        rows = {row: row.live for row in list(self.rows.values()) if row.key[3] == category and row.live}
        if sum(rows.values()) > sum(self.saved.values()):
            self.saved = rows

    def at_peak(self, row: LiveRow) -> int:
        """Return the bytes of a row at the last peak."""
        return row.at_peak if row.stamp == self.peaks else row.live

    def curve(self) -> tuple[int, ...]:
        """Return the most live bytes in each stretch of allocations."""
        return tuple(self.base + crest for crest in (*self._points, self._crest))

    def _end_stretch(self, event: int) -> None:
        self._points.append(self._crest)
        self._crest = self.live
        if len(self._points) >= _POINTS:
            points = self._points
            self._points = [max(pair) for pair in zip(points[::2], points[1::2], strict=True)]
            self._stride *= 2
        self._end = event + self._stride
