"""The counts of a test: the test run collects what every budget inside it counted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from opcount.budget.baseline import ModuleCounts
    from opcount.counter import OpCounter
    from opcount.profile import Profile


class Measurement(NamedTuple):
    """One count of a test.

    Attributes:
        name: The budget's; ``""`` if it has none.
        profile: What was counted.
        limits: What it was held to, for people.
        failures: What it is not within: on which side, and a sentence.
    """

    name: str
    profile: Profile
    limits: tuple[str, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()


@dataclass
class Watcher:
    """Collects the counts of one test.

    Attributes:
        name: The test's, for failures.
        function: The name of the test's function.
        before: Returns an older count of this test by the name of its budget, to show what changed.
        verbosity: How much evidence to show.
        measurements: What was counted.
    """

    name: str = ""
    function: str = ""
    before: Callable[[str], ModuleCounts | None] = lambda _name: None
    verbosity: int = 0
    measurements: list[Measurement] = field(default_factory=list)

    def note(self, name: str, profile: Profile, limits: tuple[str, ...] = ()) -> None:
        """Add a count, and what it is held to, for people."""
        self.measurements.append(Measurement(name, profile, limits))

    def fail(self, failures: Iterable[tuple[str, str]]) -> None:
        """Add to the last count what it is not within."""
        if self.measurements:
            last = self.measurements[-1]
            self.measurements[-1] = last._replace(failures=(*last.failures, *failures))


_WATCHERS: list[Watcher] = []


@contextmanager
def watching(watcher: Watcher) -> Iterator[Watcher]:
    """Collect all counts in the block, on whatever thread."""
    _WATCHERS.append(watcher)
    try:
        yield watcher
    finally:
        _WATCHERS.remove(watcher)


def current() -> Watcher:
    """Return the innermost watcher; outside a test run, a new one without a name, which nobody reads."""
    return _WATCHERS[-1] if _WATCHERS else Watcher()


def quiet_counter(model: nn.Module | None, *, memory: bool = False) -> OpCounter:
    """Return a counter without a warning about uncounted operators: a budget judges them afterwards."""
    from opcount.counter import OpCounter  # noqa: PLC0415  (torch is imported when something is counted)

    counter = OpCounter(model, memory=memory)
    counter._warns = False  # noqa: SLF001  (no choice that users have)
    return counter
