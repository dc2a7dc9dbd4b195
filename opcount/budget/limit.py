"""Limits as people write them, ``"4.2 GMAC"``: one bound on one metric, of the whole count or of some modules."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from opcount.errors import BudgetError, BudgetExceededError, InputError, MissingBaselineError
from opcount.escapes import printable
from opcount.reporter.numbers import si
from opcount.selectors import PREFIXES, UNITS, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BOUNDS = ("min", "max", "exact")

MEMORY = "memory"
"""The metric of the peak of live bytes, which no operator has a part in as it has in the others."""

SHORT = {MEMORY: MEMORY, "comm": "buffer_bytes"}
"""The metrics of arguments that name none of their bounds, which is an upper one: ``memory="1.2 GB"``."""

_UNITS = {**UNITS, MEMORY: "B"}

_METRICS: dict[str, list[str]] = {}
"""The metrics of each unit, in the singular and in the plural."""
for _metric, _unit in _UNITS.items():
    for _spelling in (_unit, f"{_unit}s"):
        _METRICS.setdefault(_spelling, []).append(_metric)

_SPELLINGS = f"{', '.join(dict.fromkeys(UNITS.values()))}, with a prefix {' '.join(PREFIXES[1:])} or none"


@dataclass(frozen=True)
class Limit:
    """A bound on a count.

    Attributes:
        metric: What is counted: a key of `opcount.selectors.UNITS`, or ``"memory"``, the peak of live bytes.
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
        """Return whether a count is within the limit."""
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


class LimitDefaults(NamedTuple):
    """Defaults shared by the limits of one budget.

    Attributes:
        metric: What a plain integer counts; None: it is refused.
        rtol: How far beyond its bound a count may be.
    """

    metric: str | None
    rtol: Fraction | int


@contextmanager
def naming(who: str) -> Iterator[None]:
    """Put a name before the message of an error about a budget that the block raises."""
    try:
        yield
    except (BudgetError, BudgetExceededError, MissingBaselineError) as error:
        error.args = (f"{who}: {error}",)
        raise


def read_defaults(metric: object, rtol: object) -> LimitDefaults:
    """Return the defaults that limits are written under.

    Raises:
        BudgetError: There is no such metric, or the tolerance is no number from 0 up.
    """
    return LimitDefaults(None if metric is None else check_metric(metric), read_rtol(rtol))


def read_limits(
    positional: Iterable[object],
    named: Mapping[str, object],
    defaults: LimitDefaults,
    modules: str | None = None,
) -> list[Limit]:
    """Return the limits that arguments stand for: ``("4.2 GMAC",)``, ``{"min": "1 GMAC"}``, ``{"max_flops": 400}``.

    Raises:
        BudgetError: One of them is no quantity, there is no such argument, or no count can satisfy all.
    """

    def limit(bound: str, given: object, metric: str | None) -> Limit:
        metric, count = read_quantity(given, metric)
        return Limit(metric, bound, count, modules, defaults.rtol)

    limits = [limit("max", given, defaults.metric) for given in positional]
    for name, given in named.items():
        bound, _, metric = ("max", "", SHORT[name]) if name in SHORT else name.partition("_")
        if bound not in BOUNDS or (metric and metric not in _UNITS):
            raise BudgetError(
                f"expected min, max, exact, or one of them with a metric, such as max_macs, "
                f"got the argument {name!r}. The metrics are {', '.join(_UNITS)}."
            )
        if given is not None:
            limits.append(limit(bound, given, metric or defaults.metric))
    for low in limits:
        for high in limits:
            if low.metric == high.metric and high.highest is not None and low.lowest > high.highest:
                raise BudgetError(
                    f"expected limits that a count can satisfy, got {low} and {high}. Change one of them."
                )
    return limits


def read_module_limits(modules: object, defaults: LimitDefaults) -> list[Limit]:
    """Return the limits of ``{pattern: "0.9 GMAC"}``; a value may also be ``{"min": ..., "max_flops": ...}``.

    Raises:
        BudgetError: It is no such mapping.
    """
    if not isinstance(modules, dict) or not all(isinstance(pattern, str) for pattern in modules):
        raise BudgetError(
            f"expected limits by module, such as {{'layer4.*': '0.9 GMAC'}}, got {_shown(modules)}. "
            f"Pass a dict from pattern to limit."
        )
    limits: list[Limit] = []
    for pattern, given in modules.items():
        named, positional = (given, ()) if isinstance(given, dict) else ({}, (given,))
        limits += read_limits(positional, named, defaults, pattern)
    return limits


def read_quantity(text: object, metric: str | None = None) -> tuple[str, int]:
    """Return the metric and the count that a text such as ``"4.2 GMAC"`` stands for.

    Args:
        text: A number, an SI prefix or none, and a unit: MAC, FLOP, ACT (activations) or param. A plain integer
            only where ``metric`` tells its unit.
        metric: What the text has to be about; None: its unit decides.

    Raises:
        BudgetError: The text has no unit, an unknown one, that of another metric, or no number above or equal to 0.

    Example:
        >>> read_quantity("4.2 GMAC"), read_quantity("11 MACT"), read_quantity(400, "flops")
        (('macs', 4200000000), ('activations', 11000000), ('flops', 400))
    """
    wanted = f"expected a quantity such as '4.2 G{_UNITS[metric or 'macs']}', got {_shown(text)}"
    if isinstance(text, str):
        try:
            count, unit = parse(text, tuple(_METRICS))
        except InputError:
            raise BudgetError(f"{wanted}. {_remedy(text)}") from None
        named = _METRICS[unit]
        if metric is None and len(named) > 1:
            ways = " or ".join(f"max_{name}={text!r}" for name in named)
            raise BudgetError(f"{wanted}, which may count {', '.join(named)}. Name the metric: {ways}.")
        if metric not in (None, *named):
            raise BudgetError(f"{wanted}, which counts {' or '.join(named)}.")
        metric = metric or named[0]
    elif isinstance(text, bool) or not isinstance(text, int):
        raise BudgetError(f"{wanted}. {_remedy(text)}")
    elif metric is None:
        raise BudgetError(
            f"expected a quantity with its unit, got {_shown(text)}. "
            f"Write '{text} MAC', or pass max_macs={text}: a bare number is of no unit."
        )
    else:
        count = text
    if count < 0:
        raise BudgetError(f"expected a count from 0 up, got {_shown(text)}. A limit is not a difference.")
    return metric, count


def check_metric(metric: object) -> str:
    """Return the name of a metric.

    Raises:
        BudgetError: There is no such metric.
    """
    if isinstance(metric, str) and metric in _UNITS:
        return metric
    raise BudgetError(f"expected a metric out of {', '.join(_UNITS)}, got {_shown(metric)}. Pass one of these.")


def read_rtol(rtol: object) -> Fraction:
    """Return a relative tolerance, exactly: 0.1 is one tenth.

    Raises:
        BudgetError: It is negative, infinite or no number.
    """
    valid = isinstance(rtol, (int, float)) and not isinstance(rtol, bool) and math.isfinite(rtol) and rtol >= 0
    if not valid:
        raise BudgetError(f"expected an rtol such as 0.01, got {_shown(rtol)}. Pass a number from 0 up.")
    return Fraction(str(rtol))


def noun(metric: str) -> str:
    """Return what a metric counts, as a heading names it.

    Example:
        >>> noun("macs"), noun("bytes_read")
        ('MAC', 'bytes read')
    """
    unit = _UNITS[metric]
    return unit if len(_METRICS[unit]) == 1 else metric.replace("_", " ")


def show(count: int, metric: str) -> str:
    """Return a count with its unit, to three decimals.

    Example:
        >>> show(4_200_000_000, "macs"), show(7, "params")
        ('4.200 GMAC', '7 param')
    """
    return si(count, _UNITS[metric])


def show_apart(left: int, right: int, metric: str) -> tuple[str, str]:
    """Return two counts in full where three decimals do not tell them apart.

    Example:
        >>> show_apart(4_200_000_000, 4_200_000_001, "macs")
        ('4,200,000,000 MAC', '4,200,000,001 MAC')
    """
    if left != right and show(left, metric) == show(right, metric):
        return f"{left:,} {_UNITS[metric]}", f"{right:,} {_UNITS[metric]}"
    return show(left, metric), show(right, metric)


def show_change(before: int, after: int) -> str:
    """Return how far ``after`` is from ``before``: never 0 where they differ.

    Example:
        >>> show_change(400, 450), show_change(450, 400), show_change(0, 5), show_change(10**9, 10**9 + 1)
        ('+12.5 %', '-11.1 %', '+5', '+1')
    """
    change = after - before
    share = 100 * abs(change) / before if before else 0.0
    sign = "-" if change < 0 else "+"
    return f"{sign}{share:.1f} %" if share >= 0.05 or not change else f"{change:+,}"


def label(path: str) -> str:
    """Return how a module's path is printed: the root has none, and what is called like its label stands in quotes."""
    return "'(model)'" if path == "(model)" else printable(path) or "(model)"


def _remedy(given: object) -> str:
    """Return the remedy for a quantity that cannot be read."""
    word = "".join(c for c in given if c.isalpha()) if isinstance(given, str) else ""
    if not word or word in PREFIXES:
        return f"Write a whole number and its unit: {_SPELLINGS}."
    known = [prefix + unit for unit in _METRICS for prefix in ("", *PREFIXES)]
    folded = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), folded, n=1)
    hint = f"Did you mean {folded[near[0]]!r}? " if near and word not in known else ""
    return f"{hint}The units are {_SPELLINGS}; counts are whole."


def _shown(value: object) -> str:
    return f"{value!r} of type {type(value).__name__}"
