"""The counts of every module, without the operators behind them: what baselines and test caches store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.budget.places import depth_of, params_of
from opcount.budget.units import count_of
from opcount.profile import ROOT, Total
from opcount.selectors import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opcount.profile import Profile

Counts = dict[str, int]
"""A count for every metric."""


class Snapshot(NamedTuple):
    """What every module counted, its children included.

    Attributes:
        convention: The name of the one that read the FLOPs.
        modules: Counts by path; the root is ``""``.
        depth: How many names the paths have at most; None: any number.
    """

    convention: str
    modules: Mapping[str, Counts]
    depth: int | None = None


class Change(NamedTuple):
    """One metric of one module, at two times; 0 where the module did not exist.

    Attributes:
        path: The module.
        metric: What is counted.
        before: The older count.
        after: The newer one.
    """

    path: str
    metric: str
    before: int
    after: int


def take(profile: Profile, depth: int | None = None) -> Snapshot:
    """Return the counts of the modules of a profile, down to ``depth`` names.

    Example:
        >>> from opcount.profile import Profile
        >>> take(Profile()).modules
        {'': {'macs': 0, 'flops': 0, 'activations': 0, 'params': 0}}
    """
    totals = {ROOT: Total(), **profile.by_module()}
    paths = [path for path in totals if depth is None or depth_of(path) <= depth]
    modules = {path: _counts(profile, totals[path], None if path == ROOT else path) for path in paths}
    return Snapshot(profile.convention.name, modules, depth)


def changes(before: Snapshot, after: Snapshot, metrics: tuple[str, ...] = tuple(UNITS)) -> list[Change]:
    """Return what differs, module by module, as far down as both snapshots go."""
    depths = [snapshot.depth for snapshot in (before, after) if snapshot.depth is not None]
    paths = [p for p in {**after.modules, **before.modules} if not depths or depth_of(p) <= min(depths)]
    found = (Change(p, m, _count(before, p, m), _count(after, p, m)) for p in paths for m in metrics)
    return [change for change in found if change.before != change.after]


def own(counts: Mapping[str, int]) -> dict[str, int]:
    """Return for every path what its children among the paths do not explain, the largest first.

    Example:
        >>> own({"": 10, "a": 7, "a.b": 7})
        {'a.b': 7, '': 3}
    """
    rest = dict(counts)
    for path, count in counts.items():
        parent = _parent_in(path, counts)
        if parent is not None:
            rest[parent] -= count
    return {path: count for path, count in sorted(rest.items(), key=lambda row: -abs(row[1])) if count}


def _parent_in(path: str, paths: Mapping[str, int]) -> str | None:
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return None


def _count(snapshot: Snapshot, path: str, metric: str) -> int:
    return snapshot.modules.get(path, {}).get(metric, 0)


def _counts(profile: Profile, total: Total, path: str | None) -> Counts:
    params = params_of(profile, path) if path is None or path in profile.modules else 0
    return {metric: count_of(total, params, metric) for metric in UNITS}
