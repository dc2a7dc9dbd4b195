"""What a budget counts, and how its numbers are written: ``"4.2 GMAC"``."""

from __future__ import annotations

import math
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING

from opcount.errors import BudgetError, InputError
from opcount.reporter.numbers import si
from opcount.selectors import PREFIXES, UNITS, parse

if TYPE_CHECKING:
    from opcount.profile import Total

_METRICS = {**{unit: metric for metric, unit in UNITS.items()}, **{f"{unit}s": m for m, unit in UNITS.items()}}

_SPELLINGS = f"{', '.join(UNITS.values())}, with a prefix {' '.join(PREFIXES[1:])} or none"


def read_quantity(text: object, metric: str | None = None, who: str = "flop_budget") -> tuple[str, int]:
    """Return the metric and the count that a text such as ``"4.2 GMAC"`` stands for.

    Args:
        text: A number, an SI prefix or none, and a unit: MAC, FLOP, ACT (activations) or param. A plain integer
            only where ``metric`` tells its unit.
        metric: What the text has to be about; None: its unit decides.
        who: Whom an error names.

    Raises:
        BudgetError: The text has no unit, an unknown one, that of another metric, or no number above or equal to 0.

    Example:
        >>> read_quantity("4.2 GMAC"), read_quantity("11 MACT"), read_quantity(400, "flops")
        (('macs', 4200000000), ('activations', 11000000), ('flops', 400))
    """
    if isinstance(text, str):
        return _read_text(text, metric, who)
    if isinstance(text, bool) or not isinstance(text, int):
        raise BudgetError(f"{who}: expected {_wanted(metric)}, got {_shown(text)}. {_remedy(text)}")
    if metric is None:
        raise BudgetError(
            f"{who}: expected a quantity with its unit, got {_shown(text)}. "
            f"Write '{text} MAC', or pass max_macs={text}: a bare number is of no unit."
        )
    return metric, _not_negative(text, text, who)


def check_metric(metric: object, who: str) -> str:
    """Return the name of a metric.

    Raises:
        BudgetError: There is no such metric.
    """
    if isinstance(metric, str) and metric in UNITS:
        return metric
    raise BudgetError(f"{who}: expected a metric out of {', '.join(UNITS)}, got {_shown(metric)}. Pass one of these.")


def read_rtol(rtol: object, who: str) -> Fraction:
    """Return a relative tolerance, exactly: 0.1 is one tenth.

    Raises:
        BudgetError: It is negative, infinite or no number.
    """
    valid = isinstance(rtol, (int, float)) and not isinstance(rtol, bool) and math.isfinite(rtol) and rtol >= 0
    if not valid:
        raise BudgetError(f"{who}: expected an rtol such as 0.01, got {_shown(rtol)}. Pass a number from 0 up.")
    return Fraction(str(rtol))


def count_of(total: Total, params: int, metric: str) -> int:
    """Return the number that a metric reads from a total; parameters are no part of one."""
    return params if metric == "params" else int(getattr(total, metric))


def show(count: int, metric: str) -> str:
    """Return a count with its unit, to three decimals.

    Example:
        >>> show(4_200_000_000, "macs"), show(7, "params")
        ('4.200 GMAC', '7 param')
    """
    return si(count, UNITS[metric])


def show_apart(left: int, right: int, metric: str) -> tuple[str, str]:
    """Return two counts in full where three decimals do not tell them apart.

    Example:
        >>> show_apart(4_200_000_000, 4_200_000_001, "macs")
        ('4,200,000,000 MAC', '4,200,000,001 MAC')
    """
    if left != right and show(left, metric) == show(right, metric):
        return f"{left:,} {UNITS[metric]}", f"{right:,} {UNITS[metric]}"
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


def _read_text(text: str, metric: str | None, who: str) -> tuple[str, int]:
    try:
        count, unit = parse(text, tuple(_METRICS))
    except InputError:
        raise BudgetError(f"{who}: expected {_wanted(metric)}, got {_shown(text)}. {_remedy(text)}") from None
    found = _METRICS[unit]
    if metric not in (None, found):
        raise BudgetError(f"{who}: expected {_wanted(metric)}, got {_shown(text)}, which counts {found}.")
    return found, _not_negative(count, text, who)


def _not_negative(count: int, given: object, who: str) -> int:
    if count < 0:
        raise BudgetError(f"{who}: expected a count from 0 up, got {_shown(given)}. A limit is not a difference.")
    return count


def _wanted(metric: str | None) -> str:
    return f"a quantity such as '4.2 G{UNITS[metric or 'macs']}'"


def _remedy(given: object) -> str:
    """Say what is wrong with a quantity that cannot be read."""
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
