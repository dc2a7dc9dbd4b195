"""Search for the largest batch that fits, by bisection over dry runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.fit import Fit

TRIALS = 24
"""The most dry runs of one search."""

_LARGEST = 1 << 20
_GROWTH = 8
"""The most by which a batch grows from one trial to the next."""


class Trial(NamedTuple):
    """One dry run.

    Attributes:
        batch: Samples.
        fit: What they need.
    """

    batch: int
    fit: Fit


class Search(NamedTuple):
    """The end of a search.

    Attributes:
        trials: By batch.
        largest: The largest that has room; None: not even the first.
        is_exact: Whether the next larger one was tried and has none.
    """

    trials: list[Trial]
    largest: Trial | None
    is_exact: bool


def largest_batch(count: Callable[[int], Fit]) -> Search:
    """Return the largest batch that has room, taking memory for something that grows with the batch.

    Args:
        count: Returns what a batch needs, or raises `InputError`: batch norms refuse a single sample.
    """
    found: dict[int, Fit] = {}
    try:
        found[1] = count(1)
    except InputError:
        found[2] = count(2)
    first = next(iter(found))
    small, large = (first, None) if found[first].has_room else (0, first)
    while small and len(found) < TRIALS and (large is None or large - small > 1) and small < _LARGEST:
        batch = _next(found, small, large)
        found[batch] = count(batch)
        if found[batch].has_room:
            small = batch
        else:
            large = batch
    trials = [Trial(batch, found[batch]) for batch in sorted(found)]
    largest = Trial(small, found[small]) if small else None
    return Search(trials, largest, small == 0 or large == small + 1)


def _next(found: dict[int, Fit], small: int, large: int | None) -> int:
    """Return the batch to try: the middle, or where the bytes in use reach the device's memory if they grow as so far.

    Args:
        found: By batch.
        small: The largest that has room.
        large: The smallest that has none; None: all had room.
    """
    if large is not None:
        return (small + large) // 2
    others = [batch for batch in found if batch != small]
    if not others:
        return 2 * small
    other = max(others)
    growth = (found[small].replay.allocated - found[other].replay.allocated) / (small - other)
    left = found[small].memory - found[small].replay.allocated
    guess = small + int(left / growth) + 1 if growth > 0 else _GROWTH * small
    return min(max(guess, 2 * small), _GROWTH * small)
