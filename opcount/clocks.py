"""Clocks that time steps of a loop: by the host, or by events on a device, which is waited for when it is read."""

from __future__ import annotations

from collections import deque
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_PENDING = 1024
"""Pieces whose events are kept before those that are over are added up."""


class Clock(Protocol):
    """Times steps of a loop, each in one piece or in several."""

    def start(self) -> None:
        """Begin a piece of a step."""

    def stop(self) -> None:
        """End a piece of a step."""

    def keep(self) -> None:
        """End the step: its pieces count."""

    def drop(self) -> None:
        """End the step: its pieces are forgotten."""

    def take(self) -> float:
        """Return the seconds of all steps since the last call, and begin anew."""


class HostClock:
    """Times steps by the clock of the processor.

    Args:
        now: Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._begun = self._step = self._seconds = 0.0

    def start(self) -> None:
        """Begin a piece of a step."""
        self._begun = self._now()

    def stop(self) -> None:
        """End a piece of a step."""
        self._step += self._now() - self._begun

    def keep(self) -> None:
        """End the step: its pieces count."""
        self._seconds += self._step
        self._step = 0.0

    def drop(self) -> None:
        """End the step: its pieces are forgotten."""
        self._step = 0.0

    def take(self) -> float:
        """Return the seconds of all steps since the last call, and begin anew."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class EventClock:
    """Times steps by events on the device's stream, as it reaches them; waits for the device in `take` alone.

    Args:
        record: Records an event and returns it, such as a ``torch.cuda.Event`` with ``enable_timing``.
    """

    def __init__(self, record: Callable[[], Any]) -> None:
        self._record = record
        self._begun: Any = None
        self._step: list[tuple[Any, Any]] = []
        self._pieces: deque[tuple[Any, Any]] = deque()
        self._seconds = 0.0

    def start(self) -> None:
        """Begin a piece of a step."""
        self._begun = self._record()

    def stop(self) -> None:
        """End a piece of a step."""
        self._step.append((self._begun, self._record()))

    def keep(self) -> None:
        """End the step: its pieces count."""
        self._pieces += self._step
        self._step.clear()
        if len(self._pieces) > _PENDING:
            self._add_finished()

    def drop(self) -> None:
        """End the step: its pieces are forgotten."""
        self._step.clear()

    def take(self) -> float:
        """Wait for the device, once; return the seconds of all steps since the last call, and begin anew."""
        if self._pieces:
            self._pieces[-1][1].synchronize()
        self._add_finished()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _add_finished(self) -> None:
        """Add up the pieces that the device has passed, without waiting for it."""
        while self._pieces and self._pieces[0][1].query():
            begun, ended = self._pieces.popleft()
            self._seconds += begun.elapsed_time(ended) / 1000


def clock_of(where: torch.device) -> Clock:
    """Return the clock of a device: events where it runs behind the host."""
    if where.type in {"cuda", "xpu"}:
        return EventClock(partial(_event_on_stream, getattr(torch, where.type), where))
    if where.type == "mps":
        return EventClock(_event_on_mps)
    return HostClock()


def _event_on_stream(backend: Any, where: torch.device) -> Any:
    event = backend.Event(enable_timing=True)
    event.record(backend.current_stream(where))
    return event


def _event_on_mps() -> Any:
    event = torch.mps.Event(enable_timing=True)
    event.record()
    return event
