"""The fixture ``flop_regression``: counts that are held to a file beside the test."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from opcount.budget import baseline
from opcount.budget.budget import need_all_steps
from opcount.budget.limit import naming, read_rtol, show_apart, show_change
from opcount.budget.verdict import explain, named, summarize
from opcount.budget.watch import current
from opcount.coverage import plural
from opcount.errors import BudgetError, BudgetExceededError, MissingBaselineError
from opcount.escapes import visible
from opcount.profile import Profile

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    import pytest

    from opcount.counter import OpCounter
    from opcount.diff import Change

_UNSAFE = re.compile(r"[^\w.\-\[\]=,]")


class FlopRegression:
    """Compares counts with the baseline file of a test.

    Attributes:
        path: The file of the test's first count.
    """

    def __init__(self, item: pytest.Item, *, update: bool, verbosity: int) -> None:
        self._item = item
        self._update = update
        self._verbosity = verbosity
        self._names: set[str] = set()
        self.path = baseline_path(item)

    def check(self, counter: OpCounter | Profile, *, depth: int | None = 2, rtol: float = 0, name: str = "") -> None:
        """Compare a count with its baseline; with ``--flops-update``, write the baseline instead.

        A module that has another path than in the baseline, and the same counts, was renamed: that is no change.

        Args:
            counter: What counted, or a profile.
            depth: How many names the paths of the compared modules have at most; None: any number.
            rtol: How far each count may be from the baseline's, as a share of it.
            name: Tells several counts of one test apart.

        Raises:
            BudgetExceededError: A count differs.
            MissingBaselineError: There is no baseline yet.
            BaselineError: The file is corrupt, or of a newer format.
            BudgetError: The count is of some steps of a loop.
        """
        __tracebackhide__ = True
        who = ", ".join(filter(None, (self._item.name, name)))
        with naming(f"{who}: flop_regression.check"):
            tolerance = read_rtol(rtol)
            profile = _profile(counter)
            _check_depth(depth)
            self._claim(name)
        with naming(who):
            if not profile.records:
                raise BudgetExceededError("0 operators seen: was the model run inside the test?")
            current().note(name, profile)
            self._hold(profile, baseline_path(self._item, name), depth, tolerance)

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise BudgetError(
                f"expected a name for each baseline of a test, got {name!r} twice. "
                f"Pass check(..., name=...) to tell them apart."
            )
        self._names.add(name)

    def _hold(self, profile: Profile, path: Path, depth: int | None, rtol: Fraction) -> None:
        __tracebackhide__ = True
        before, now = baseline.read(path), baseline.take(profile, depth)
        if self._update:
            if before is None or baseline.dump(before) != baseline.dump(now):
                baseline.write(path, baseline.dump(now))
            return
        if before is None:
            current().fail([("no baseline", f"got no file {path}")])
            raise MissingBaselineError(f"expected a baseline, got no file {path}. Run pytest with --flops-update.")
        if before.convention != visible(profile.convention.name):
            profile = profile.with_convention(before.convention)
        found = baseline.beyond(before, baseline.take(profile, before.depth), rtol)
        if not found:
            return
        worst, metric = min(found, key=_rank)
        modules = len({change.path for change, _ in found})
        old, new = worst.values(metric)
        current().fail([("over" if new > old else "under", _sentence(worst, metric, before.convention))])
        spent = summarize(profile, metric, None, before)
        raise BudgetExceededError(
            f"{_sentence(worst, metric, before.convention)}; {plural(modules, 'module')} changed. {spent} "
            f"If this is meant, run pytest with --flops-update.",
            f"baseline {path}\n{explain(profile, metric, None, before, self._verbosity)}",
        )


def baseline_path(item: pytest.Item, name: str = "") -> Path:
    """Return where the baseline of a test lies: ``test_model.flops/TestVit.test_forward[224].txt``."""
    parts = item.nodeid.split("::", 1)[-1].split("::") if "::" in item.nodeid else [item.name]
    plain = ".".join([*parts, *filter(None, [name])])
    safe = _UNSAFE.sub("-", plain)
    if safe != plain or len(safe) > 150:
        safe = f"{safe[:150]}-{sha256(plain.encode()).hexdigest()[:8]}"
    return item.path.with_suffix(".flops") / f"{safe}.txt"


def _profile(counter: object) -> Profile:
    profile = counter if isinstance(counter, Profile) else getattr(counter, "profile", None)
    if not isinstance(profile, Profile):
        raise BudgetError(
            f"expected an OpCounter or a Profile, got {counter!r} "
            f"of type {type(counter).__name__}. Pass the `c` of `with OpCounter(model) as c`."
        )
    need_all_steps(profile)
    return profile


def _check_depth(depth: object) -> None:
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise BudgetError(
            f"expected a depth from 0 up, or None for all modules, got {depth!r} "
            f"of type {type(depth).__name__}. Pass the number of names that a path has at most."
        )


def _rank(row: tuple[Change, str]) -> tuple[bool, bool, int]:
    """Return a key that sorts the whole count before its modules, MACs before others, and the largest change first."""
    change, metric = row
    before, after = change.values(metric)
    return bool(change.path), metric != "macs", -abs(after - before)


def _sentence(change: Change, metric: str, convention: str) -> str:
    before, after = change.values(metric)
    shown, counted = show_apart(before, after, metric)
    place = f"{named(change)} " if change.path else ""
    footnote = f", convention {visible(convention)}" if metric == "flops" else ""
    return f"{place}baseline {shown}, counted {counted} ({show_change(before, after)}{footnote})"
