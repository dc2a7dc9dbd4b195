"""Sampling of a loop's steps, and the extrapolation to all of them."""

from __future__ import annotations

from math import sqrt
from operator import index
from random import Random

from opcount.cost import Cost
from opcount.steps import Amount, Spread, Steps


class Sampling:
    """Selects the first step, then one pseudo-randomly chosen step of each ``every`` that follow.

    Work that recurs every few steps, such as an optimizer step after several batches, is thus sampled as often as it
    occurs on average; the first step, which may be unlike the others, represents itself alone. The selection is the
    same in every run and on every rank, and does not use Python's or PyTorch's global generators.

    Attributes:
        unfinished: Whether a counted step has begun and not ended, for example because of an interrupt.

    Args:
        every: The number of steps of which one is counted.

    Raises:
        ValueError: It is not a positive integer.
    """

    def __init__(self, every: object) -> None:
        self._every = _whole_number(every)
        self.clear()

    def clear(self) -> None:
        """Reset: the next step is the first."""
        self.unfinished = False
        self._places = Random(0)  # noqa: S311  (places in a loop are no secrets)
        self._skip = 0
        self._rest = 0
        self._total = self._measured = self._interrupted = 0
        self._first = self._seen = self._broken = Amount()
        self._spread: Spread | None = None
        self._sum = self._squares = (0, 0)

    @property
    def seen(self) -> Amount:
        """The count of all steps so far, as of the end of the last one that was counted."""
        return self._seen

    @property
    def pauses(self) -> bool:
        """True if the next step is skipped."""
        return self._skip > 0

    def end_skipped(self, *, complete: bool) -> None:
        """End a skipped step."""
        self._skip -= 1
        if complete:
            self._total += 1
        else:
            self._interrupted += 1

    def end_measured(self, now: Amount, *, complete: bool) -> None:
        """End a counted step; if an exception ended it, the next step is counted instead.

        Args:
            now: The count of all steps so far.
            complete: Whether the step ran to its end.
        """
        self.unfinished = False
        before, self._seen = self._seen, now
        if not complete:
            self._interrupted += 1
            self._broken = self._broken.plus(now.minus(before))
            return
        cost = now.cost + -1 * before.cost
        if not self._measured:
            self._first = now.minus(before)
            self._spread = Spread(cost, cost, cost)
        else:
            self._note(cost)
        self._total += 1
        self._measured += 1
        place = self._places.randrange(self._every)
        self._skip = self._rest + place
        self._rest = self._every - 1 - place

    def _note(self, cost: Cost) -> None:
        if self._spread is not None:
            self._spread = self._spread.widened(cost, cost)
        self._sum = self._sum[0] + cost.macs, self._sum[1] + cost.arith
        self._squares = self._squares[0] + cost.macs**2, self._squares[1] + cost.arith**2

    def steps(self) -> Steps:
        """Return the steps so far, and the extrapolation to all that ended."""
        return Steps(self._total, self._measured, self._interrupted, self._spread, self._whole(), self._error())

    def _whole(self) -> Amount:
        """Return the first step plus the mean of the other counted steps times the number of the others.

        If none of the others was counted yet, each counts as the first.
        """
        if not self._measured:
            return Amount()
        if self._measured == 1:
            return self._first.times(self._total, 1)
        later = self._seen.minus(self._broken).minus(self._first)
        return self._first.plus(later.times(self._total - 1, self._measured - 1))

    def _error(self) -> Cost | None:
        """Return the standard error of the extrapolation; None if too few steps were counted."""
        if self._measured == self._total:
            return Cost()
        counted, steps = self._measured - 1, self._total - 1
        if counted < 2:
            return None
        pairs = zip(self._sum, self._squares, strict=True)
        return Cost(*(_standard_error(total, squares, counted, steps) for total, squares in pairs))


def _standard_error(total: int, squares: int, counted: int, steps: int) -> int:
    """Return the standard error of the sum over all steps, for sampling without replacement."""
    variance = (counted * squares - total**2) / (counted * (counted - 1))
    return round(sqrt(variance / counted * steps * (steps - counted)))


def _whole_number(every: object) -> int:
    try:
        number = 0 if isinstance(every, bool) else index(every)  # type: ignore[arg-type]  # whether it is one is asked
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(
            f"OpCounter: expected every to be a whole number from 1 on, got {every!r} of type {type(every).__name__}. "
            f"Pass 100 to count one step of a hundred, or leave it out to count all that runs."
        )
    return number
