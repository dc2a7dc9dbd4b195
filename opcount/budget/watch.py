"""Who is told what was counted: a test run collects the counts of each of its tests."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.budget.snapshot import Snapshot
    from opcount.profile import Profile


class Measurement(NamedTuple):
    """One count of a test.

    Attributes:
        name: Of the budget; ``""`` if it has none.
        profile: What was counted.
        limits: What it was held to, for people.
    """

    name: str
    profile: Profile
    limits: tuple[str, ...] = ()


def _nothing(_name: str) -> None:
    """Know no older count."""


@dataclass
class Watcher:
    """Collects the counts of one test.

    Attributes:
        name: Of the test, for failures.
        function: The name of the test's function.
        before: Returns an older count of this test by the name of its budget, to show what changed.
        verbosity: How much evidence to show.
        measurements: What was counted.
    """

    name: str
    function: str = ""
    before: Callable[[str], Snapshot | None] = _nothing
    verbosity: int = 0
    measurements: list[Measurement] = field(default_factory=list)


_WATCHERS: list[Watcher] = []


@contextmanager
def watching(watcher: Watcher) -> Iterator[Watcher]:
    """Tell this watcher of all counts in the block, on whatever thread."""
    _WATCHERS.append(watcher)
    try:
        yield watcher
    finally:
        _WATCHERS.remove(watcher)


def current() -> Watcher | None:
    """Return the innermost watcher, if there is one."""
    return _WATCHERS[-1] if _WATCHERS else None
