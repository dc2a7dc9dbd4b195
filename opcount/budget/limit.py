"""One bound on one metric, of the whole count or of the modules that a pattern names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from opcount.budget.units import check_metric, read_quantity, read_rtol, show, show_apart, show_change
from opcount.errors import BudgetError
from opcount.selectors import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from fractions import Fraction

BOUNDS = ("min", "max", "exact")


@dataclass(frozen=True)
class Limit:
    """What a count may be.

    Attributes:
        metric: What is counted: ``"macs"``, ``"flops"``, ``"activations"`` or ``"params"``.
        bound: ``"min"``, ``"max"`` or ``"exact"``.
        count: The bound.
        modules: A pattern of module paths; None for the whole count.
        rtol: How far beyond the bound a count may be, as a share of it.
    """

    metric: str
    bound: str
    count: int
    modules: str | None = None
    rtol: Fraction | int = 0

    @property
    def lowest(self) -> int:
        """The smallest count that is within the limit."""
        return 0 if self.bound == "max" else math.ceil(self.count * (1 - self.rtol))

    @property
    def highest(self) -> int | None:
        """The largest count that is within the limit; None where there is none."""
        return None if self.bound == "min" else math.floor(self.count * (1 + self.rtol))

    def allows(self, count: int) -> bool:
        """Tell whether a count is within the limit."""
        return self.lowest <= count and (self.highest is None or count <= self.highest)

    def __str__(self) -> str:
        """Return the limit as a failure names it.

        Example:
            >>> str(Limit("macs", "max", 400)), str(Limit("flops", "min", 1000))
            ('400 MAC', 'at least 1.000 kFLOP')
        """
        return self._worded(show(self.count, self.metric))

    def explain(self, count: int, convention: str) -> str:
        """Return ``limited to ..., counted ... (+x %)``; the convention is named where the metric depends on it.

        Example:
            >>> Limit("macs", "max", 400).explain(450, "fvcore")
            'limited to 400 MAC, counted 450 MAC (+12.5 %)'
        """
        footnote = f", convention {convention}" if self.metric == "flops" else ""
        limit, counted = show_apart(self.count, count, self.metric)
        return f"limited to {self._worded(limit)}, counted {counted} ({show_change(self.count, count)}{footnote})"

    def _worded(self, count: str) -> str:
        prefix = {"min": "at least ", "max": "", "exact": "exactly "}[self.bound]
        tolerance = f" within {100 * float(self.rtol):g} %" if self.rtol else ""
        return f"{prefix}{count}{tolerance}"


class Writing(NamedTuple):
    """How limits were written, for their errors and their defaults."""

    who: str
    metric: str | None
    rtol: Fraction | int


def read_limits(
    positional: Iterable[object],
    named: Mapping[str, object],
    writing: Writing,
    modules: str | None = None,
) -> list[Limit]:
    """Return the limits that arguments stand for: ``("4.2 GMAC",)``, ``{"min": "1 GMAC"}``, ``{"max_flops": 400}``.

    Raises:
        BudgetError: One of them is no quantity, there is no such argument, or no count can satisfy all.
    """
    limits = [_limit("max", given, writing.metric, writing, modules) for given in positional]
    for name, given in named.items():
        bound, _, metric = name.partition("_")
        if bound not in BOUNDS or (metric and metric not in UNITS):
            raise BudgetError(
                f"{writing.who}: expected min, max, exact, or one of them with a metric, such as max_macs, "
                f"got the argument {name!r}. The metrics are {', '.join(UNITS)}."
            )
        if given is not None:
            limits.append(_limit(bound, given, metric or writing.metric, writing, modules))
    _check_satisfiable(limits, writing.who)
    return limits


def read_module_limits(modules: object, writing: Writing) -> list[Limit]:
    """Return the limits of ``{pattern: "0.9 GMAC"}``; a value may also be ``{"min": ..., "max_flops": ...}``.

    Raises:
        BudgetError: It is no such mapping.
    """
    if not isinstance(modules, dict) or not all(isinstance(pattern, str) for pattern in modules):
        raise BudgetError(
            f"{writing.who}: expected limits by module, such as {{'layer4.*': '0.9 GMAC'}}, got {modules!r} "
            f"of type {type(modules).__name__}. Pass a dict from pattern to limit."
        )
    limits: list[Limit] = []
    for pattern, given in modules.items():
        named, positional = (given, ()) if isinstance(given, dict) else ({}, (given,))
        limits += read_limits(positional, named, writing, pattern)
    return limits


def read_writing(who: str, metric: object, rtol: object) -> Writing:
    """Return the defaults that limits are written under.

    Raises:
        BudgetError: The metric or the tolerance is none.
    """
    return Writing(who, None if metric is None else check_metric(metric, who), read_rtol(rtol, who))


def _limit(bound: str, given: object, metric: str | None, writing: Writing, modules: str | None) -> Limit:
    metric, count = read_quantity(given, metric, writing.who)
    return Limit(metric, bound, count, modules, writing.rtol)


def _check_satisfiable(limits: list[Limit], who: str) -> None:
    for low in limits:
        for high in limits:
            if low.metric == high.metric and high.highest is not None and low.lowest > high.highest:
                raise BudgetError(
                    f"{who}: expected limits that a count can satisfy, got {low} and {high}. Change one of them."
                )
