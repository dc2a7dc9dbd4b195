"""Sampled steps of a loop: their number, their spread, and the extrapolation to all steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import hypot
from typing import TYPE_CHECKING, NamedTuple

from opcount.cost import Cost
from opcount.records import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opcount.records import Record


class Amount(NamedTuple):
    """The additive part of a count.

    Attributes:
        records: The rows.
        calls: Calls of modules, by path.
        unattributed: Operator calls charged to the root because their module is unknown, by reason.
    """

    records: tuple[Record, ...] = ()
    calls: Mapping[str, int] = {}
    unattributed: Mapping[str, int] = {}

    def plus(self, other: Amount) -> Amount:
        """Add another amount to this one."""
        return Amount(
            merge(self.records + other.records),
            Counter(self.calls) + Counter(other.calls),
            Counter(self.unattributed) + Counter(other.unattributed),
        )

    def minus(self, other: Amount) -> Amount:
        """Subtract an amount that is part of this one; rows without calls are left out."""
        negative = other.map(lambda count: -count)
        rows = merge(self.records + negative.records)
        return Amount(
            tuple(row for row in rows if row.calls),
            Counter(self.calls) - Counter(other.calls),
            Counter(self.unattributed) - Counter(other.unattributed),
        )

    def times(self, numerator: int, denominator: int) -> Amount:
        """Multiply by a fraction; each number is rounded."""
        return self.map(lambda count: (2 * count * numerator + denominator) // (2 * denominator))

    def map(self, change: Callable[[int], int]) -> Amount:
        """Apply a function to every number."""
        return Amount(
            tuple(
                row._replace(
                    calls=change(row.calls),
                    cost=Cost(*map(change, row.cost)),
                    bytes_written=change(row.bytes_written),
                    bytes_read=change(row.bytes_read),
                    repeated=change(row.repeated),
                    causal=change(row.causal),
                    collective=row.collective
                    and row.collective._replace(buffer_bytes=change(row.collective.buffer_bytes)),
                )
                for row in self.records
            ),
            {path: change(count) for path, count in self.calls.items()},
            {reason: change(count) for reason, count in self.unattributed.items()},
        )

    @property
    def cost(self) -> Cost:
        """The sum of the rows."""
        return Cost(*map(sum, zip(*(row.cost for row in self.records), strict=True)))


class Spread(NamedTuple):
    """The range of the counted steps' costs, each number on its own.

    Attributes:
        first: What the first step cost; an optimizer makes its state in it.
        least: The least that a counted step cost.
        most: The most that a counted step cost.
    """

    first: Cost
    least: Cost
    most: Cost

    def widened(self, least: Cost, most: Cost) -> Spread:
        """Return a spread that covers two more costs."""
        return Spread(self.first, Cost(*map(min, self.least, least)), Cost(*map(max, self.most, most)))


@dataclass(frozen=True)
class Steps:
    """Steps of a loop that a profile is made of.

    Attributes:
        total: Steps that ran to their end.
        measured: Of these, how many were counted.
        interrupted: Steps that an exception ended. What was counted of them is among what was measured; they are
            left out of the extrapolation.
        spread: How the counted steps differed, whatever was selected of the profile since; None if no step ended.
        whole: What all steps come to, extrapolated; None if that is what the profile itself holds.
        error: The standard error of the extrapolated MACs and other operations, whatever was selected since; it tells
            how far off they are likely to be, and is none where all steps were counted or were alike. None if too
            few were counted to tell.
    """

    total: int = 0
    measured: int = 0
    interrupted: int = 0
    spread: Spread | None = None
    whole: Amount | None = None
    error: Cost | None = None

    @property
    def extrapolated(self) -> bool:
        """True if the profile's numbers are estimates for all steps, and not what was measured."""
        return self.whole is None

    @property
    def partial(self) -> bool:
        """True if some steps were not counted, so that no number is exact for all that ran."""
        return self.measured < self.total

    def verdict(self) -> str:
        """Return a phrase that says whether the numbers are measured or extrapolated.

        Example:
            >>> Steps(1000, 11, whole=Amount()).verdict()
            'measured in 11 of 1000 steps'
            >>> Steps(1000, 11).verdict()
            'extrapolated from 11 to 1000 steps'
        """
        if self.extrapolated:
            return f"extrapolated from {self.measured} to {self.total} steps"
        return f"measured in {self.measured} of {self.total} steps"

    def select(self, keep: Callable[[Record], bool]) -> Steps:
        """Return the same steps with only those records extrapolated."""
        if self.whole is None:
            return self
        return replace(self, whole=self.whole._replace(records=tuple(filter(keep, self.whole.records))))

    def plus(self, other: Steps) -> Steps:
        """Add the steps of another loop, each extrapolated on its own; both are measured, or both extrapolated."""
        spread = self.spread or other.spread
        if self.spread and other.spread:
            spread = self.spread.widened(other.spread.least, other.spread.most)
        return Steps(
            self.total + other.total,
            self.measured + other.measured,
            self.interrupted + other.interrupted,
            spread,
            None if self.whole is None or other.whole is None else self.whole.plus(other.whole),
            None if self.error is None or other.error is None else _hypotenuse(self.error, other.error),
        )


def _hypotenuse(one: Cost, other: Cost) -> Cost:
    return Cost(*(round(hypot(a, b)) for a, b in zip(one, other, strict=True)))
