"""The growth of a count with a size: the exponent, fitted on exact counts."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from opcount.budget.baseline import own, take
from opcount.budget.limit import check_metric, label, naming, noun, show
from opcount.budget.watch import current, quiet_counter
from opcount.coverage import plural
from opcount.errors import BudgetError, BudgetExceededError
from opcount.profile import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import nn

    from opcount.profile import Profile

_CURVE = re.compile(r"(?:(?P<one>1)|n(?:\^(?P<power>\d+(?:\.\d+)?))?(?P<log>\s*\*?\s*log\s*n)?)")
_SLACK = 1e-6
"""Error allowed in the fit: floating point is not exact, the counts are."""

_NEGLIGIBLE = 0.01
"""A module below this share of the largest count grows too little to be named."""


class Growth(NamedTuple):
    """The growth of a count.

    Attributes:
        exponent: The power of n that fits best.
        counts: By size.
        modules: The exponent of what each module computes itself, the fastest first.
    """

    exponent: float
    counts: dict[int, int]
    modules: dict[str, float]


def scaling(
    run: Callable[[int], object],
    *,
    sizes: Iterable[int],
    at_most: str,
    metric: str = "macs",
    model: nn.Module | None = None,
    allow_uncounted: bool = False,
) -> Growth:
    """Run a program at several sizes, and hold the growth of its count to a curve.

    A straight line with an offset, ``a n + b``, fits below ``n^1``; a small quadratic part fits above it, however
    small. Sizes that are padded or cropped inside the model fit off their true exponent: say ``"n^1.05"``.

    Args:
        run: Called with each size.
        sizes: At least two.
        at_most: ``"1"``, ``"n"``, ``"n log n"``, ``"n^2"``, ``"n^1.5"``, ...
        metric: A key of `opcount.selectors.UNITS`, such as ``"activations"``.
        model: Gives modules their paths.
        allow_uncounted: Whether operators without a formula may run.

    Raises:
        BudgetError: The sizes or the curve cannot be read.
        BudgetExceededError: The count grows faster, or nothing was counted.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(8, 8)
        >>> scaling(lambda n: layer(torch.ones(n, 8)), sizes=(2, 4, 8), at_most="n").counts
        {2: 128, 4: 256, 8: 512}
    """
    __tracebackhide__ = True
    watcher = current()
    who = watcher.name or "scaling"
    with naming(who):
        check_metric(metric)
        lengths = _check_sizes(sizes)
        allowed = _read_curve(at_most, lengths)
    profiles: dict[int, Profile] = {}
    for size in lengths:
        with quiet_counter(model) as counter:
            run(size)
        profiles[size] = counter.profile
    with naming(who):
        for size, profile in profiles.items():
            watcher.note(f"n = {size}", profile)
            _check_counted(profile, size, metric, allow_uncounted=allow_uncounted)
        growth = measure(profiles, metric)
        if growth.exponent > allowed + _SLACK:
            raise BudgetExceededError(_sentence(at_most, growth, metric), _curves(profiles, growth, metric))
    return growth


def measure(profiles: dict[int, Profile], metric: str) -> Growth:
    """Fit the growth of profiles by size."""
    counts = {size: _counts(profile, metric)[ROOT] for size, profile in profiles.items()}
    spent = {size: own(_counts(profile, metric)) for size, profile in profiles.items()}
    largest = max(profiles)
    modules = {
        path: _fit({size: spent[size].get(path, 0) for size in profiles})
        for path, count in spent[largest].items()
        if count >= _NEGLIGIBLE * counts[largest] and count
    }
    ranked = sorted(modules, key=lambda path: (-round(modules[path], 6), -spent[largest][path]))
    return Growth(_fit(counts), counts, {path: modules[path] for path in ranked})


def _fit(counts: Mapping[int, float]) -> float:
    """Return the slope of the straight line through the logarithms; infinite if something comes from nothing."""
    import numpy as np  # noqa: PLC0415  (a test without this check should not wait for it)

    if not all(counts.values()):
        return math.inf if any(counts.values()) else 0.0
    sizes, found = ([math.log(n) for n in row] for row in (counts.keys(), counts.values()))
    return float(np.polyfit(sizes, found, 1)[0])


def _counts(profile: Profile, metric: str) -> dict[str, int]:
    return {path: row[metric] for path, row in take(profile).rows.items()}


def _check_sizes(sizes: Iterable[int]) -> list[int]:
    lengths = list(sizes)
    valid = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in lengths)
    if not valid or len(set(lengths)) < 2:
        raise BudgetError(
            f"expected at least two different sizes, integers above 0, got {lengths!r} "
            f"of type {type(sizes).__name__}. Pass sizes such as (128, 256, 512)."
        )
    return sorted(set(lengths))


def _read_curve(at_most: str, sizes: list[int]) -> float:
    """Return the exponent that the curve itself has over these sizes."""
    match = _CURVE.fullmatch(at_most.strip()) if isinstance(at_most, str) else None
    if match is None:
        raise BudgetError(
            f"expected a curve such as 'n', 'n log n' or 'n^2', got {at_most!r} of type "
            f"{type(at_most).__name__}. Write a power of n."
        )
    if match["one"]:
        return 0.0
    power = float(match["power"] or 1)
    if not match["log"]:
        return power
    if sizes[0] == 1:
        raise BudgetError(f"expected sizes above 1 for {at_most!r}, got 1, whose logarithm is 0. Leave it out.")
    return power + _fit({size: math.log(size) for size in sizes})


def _check_counted(profile: Profile, size: int, metric: str, *, allow_uncounted: bool) -> None:
    if not profile.records:
        raise BudgetExceededError(f"0 operators seen at n = {size}: does the function run the model?")
    if not _counts(profile, metric)[ROOT]:
        raise BudgetExceededError(f"0 {noun(metric)} counted at n = {size}, so nothing can grow. Choose a metric.")
    names = profile.coverage.uncounted
    if names and not allow_uncounted:
        raise BudgetExceededError(
            f"{plural(len(names), 'operator')} without a formula at n = {size}, so the growth is unknown: "
            f"{', '.join(sorted(names))}. Register a formula with @opcount.formula, or pass allow_uncounted=True."
        )


def _sentence(at_most: str, growth: Growth, metric: str) -> str:
    curve = ", ".join(f"{size}: {show(count, metric)}" for size, count in growth.counts.items())
    fastest = [f"{label(path)} n^{exponent:.2f}" for path, exponent in growth.modules.items()][:1]
    named = f" Grows fastest: {fastest[0]}." if fastest else ""
    return f"limited to {at_most}, grew as n^{growth.exponent:.2f} (n = {curve}).{named}"


def _curves(profiles: dict[int, Profile], growth: Growth, metric: str) -> str:
    """Return a line for each module: its exponent and its counts."""
    spent = [own(_counts(profile, metric)) for profile in profiles.values()]
    lines = [f"{noun(metric)} of each module by n = {', '.join(map(str, profiles))}, without its children:"]
    width = max((len(label(path)) for path in growth.modules), default=0)
    for path, exponent in growth.modules.items():
        counts = ", ".join(show(row.get(path, 0), metric) for row in spent)
        lines.append(f"  {label(path):{width}}  n^{exponent:.2f}  {counts}")
    return "\n".join(lines)
