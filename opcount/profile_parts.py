"""Sums of totals, and the parts of two profiles, added up."""

from __future__ import annotations

from collections import Counter
from operator import add
from typing import TYPE_CHECKING, TypeVar

from opcount.cost import Cost
from opcount.errors import SamplingError
from opcount.records import Total
from opcount.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opcount.records import Module
    from opcount.steps import Amount

K = TypeVar("K")


def add_to(sums: dict[K, list[int]], key: K, numbers: Iterable[int]) -> None:
    """Add the numbers of a `Total` to a sum, in place: reports do so for all records several times."""
    row = sums.get(key)
    if row is None:
        sums[key] = list(numbers)
    else:
        row[:] = map(add, row, numbers)


def as_totals(sums: Mapping[K, list[int]]) -> dict[K, Total]:
    """Return sums as totals."""
    return {key: Total(*numbers) for key, numbers in sums.items()}


def sum_of(totals: Iterable[Total]) -> Total:
    """Return the sum of totals."""
    return Total(*map(sum, zip(*totals, strict=True))) if (totals := list(totals)) else Total()


def merge_counts(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """Add numbers by name."""
    counts = Counter(left)
    counts.update(right)
    return dict(counts)


def merge_groups(
    left: Mapping[str, tuple[int, ...]], right: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Keep the ranks of groups that are the same on both sides, or on one alone: those of others have no one group."""
    both = {**left, **right}
    return {name: ranks for name, ranks in both.items() if left.get(name, ranks) == right.get(name, ranks) == ranks}


def merge_modules(left: Mapping[str, Module], right: Mapping[str, Module]) -> dict[str, Module]:
    """Keep the modules of both, by path, and add up their calls."""
    modules = dict(left)
    for path, module in right.items():
        same = modules.get(path)
        modules[path] = module if same is None else same._replace(calls=same.calls + module.calls)
    return modules


def merge_provenance(left: Mapping[str, str], right: Mapping[str, str], without: str = "") -> dict[str, str]:
    """Keep equal values, and join different ones with a comma; leave one entry out."""
    merged = dict(left)
    for name, value in right.items():
        known = merged.setdefault(name, value)
        if f", {value}, " not in f", {known}, ":
            merged[name] = f"{known}, {value}"
    merged.pop(without, None)
    return merged


def add_steps(
    left: Steps | None, right: Steps | None, amounts: tuple[Callable[[], Amount], Callable[[], Amount]]
) -> Steps | None:
    """Add up the steps of two profiles; one without steps was measured whole.

    Args:
        left: Of the first profile.
        right: Of the second.
        amounts: Return what each counted.

    Raises:
        SamplingError: One was measured, the other is extrapolated.
    """
    if left is None and right is None:
        return None
    first, second = (
        Steps(whole=amount(), error=Cost()) if steps is None else steps
        for steps, amount in zip((left, right), amounts, strict=True)
    )
    if first.extrapolated != second.extrapolated:
        estimate = first if first.extrapolated else second
        raise SamplingError(
            f"Profile: expected two profiles that were measured, or two that are extrapolated, got one that was "
            f"measured and one {estimate.verdict()}. Add what was measured, and extrapolate the sum."
        )
    return first.plus(second)
