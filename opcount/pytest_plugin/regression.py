"""The fixture ``flop_regression``: counts that are held to a file beside the test."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from opcount.budget import baseline
from opcount.budget.enforce import report
from opcount.budget.evidence import explain, summarize
from opcount.budget.places import label, need_all_steps
from opcount.budget.snapshot import take
from opcount.budget.units import read_rtol, show_apart, show_change
from opcount.coverage import plural
from opcount.errors import BudgetError, BudgetExceededError
from opcount.escapes import visible
from opcount.profile import Profile

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from opcount.budget.snapshot import Change, Snapshot
    from opcount.counter import OpCounter

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

        Args:
            counter: What counted, or a profile.
            depth: How many names the paths of the compared modules have at most; None: any number.
            rtol: How far each count may be from the baseline's, as a share of it.
            name: Tells several counts of one test apart.

        Raises:
            BudgetExceededError: A count differs, or there is no baseline yet.
            BaselineError: The file is corrupt, or of a newer format.
            BudgetError: The count is of some steps of a loop.
        """
        __tracebackhide__ = True
        who = ", ".join(filter(None, (self._item.name, name)))
        tolerance = read_rtol(rtol, f"{who}: flop_regression.check")
        profile = _profile(counter, who)
        self._claim(name, who)
        if not profile.records:
            raise BudgetExceededError(f"{who}: 0 operators seen: was the model run inside the test?")
        report(profile, name=name)
        _check_depth(depth, who)
        path = baseline_path(self._item, name)
        before, now = baseline.read(path), take(profile, depth)
        if self._update:
            _update(path, now, before)
        elif before is None:
            raise BudgetExceededError(
                f"{who}: expected a baseline, got no file {path}. Run pytest with --flops-update."
            )
        else:
            self._compare(profile, before, tolerance, who, path)

    def _claim(self, name: str, who: str) -> None:
        if name in self._names:
            raise BudgetError(
                f"{who}: expected a name for each baseline of a test, got {name!r} twice. "
                f"Pass check(..., name=...) to tell them apart."
            )
        self._names.add(name)

    def _compare(self, profile: Profile, before: Snapshot, rtol: object, who: str, path: Path) -> None:
        __tracebackhide__ = True
        if before.convention != visible(profile.convention.name):
            profile = profile.with_convention(before.convention)
        found = baseline.beyond(before, take(profile, before.depth), rtol)  # type: ignore[arg-type]
        if not found:
            return
        worst = min(found, key=lambda change: (bool(change.path), -abs(change.after - change.before)))
        sentence = f"{who}: {_sentence(worst)}; {plural(_modules(found), 'module')} changed"
        spent = summarize(profile, worst.metric, None, before)
        raise BudgetExceededError(
            f"{sentence}. {spent} If this is meant, run pytest with --flops-update.",
            f"baseline {path}\n{explain(profile, worst.metric, None, before, self._verbosity)}",
        )


def baseline_path(item: pytest.Item, name: str = "") -> Path:
    """Return where the baseline of a test lies: ``test_model.flops/TestVit.test_forward[224].txt``."""
    parts = item.nodeid.split("::", 1)[-1].split("::") if "::" in item.nodeid else [item.name]
    plain = ".".join([*parts, *filter(None, [name])])
    safe = _UNSAFE.sub("-", plain)
    if safe != plain or len(safe) > 150:
        safe = f"{safe[:150]}-{sha256(plain.encode()).hexdigest()[:8]}"
    return item.path.with_suffix(".flops") / f"{safe}.txt"


def _update(path: Path, now: Snapshot, before: Snapshot | None) -> None:
    if before is None or baseline.dump(before) != baseline.dump(now):
        baseline.write(path, baseline.dump(now))


def _profile(counter: object, who: str) -> Profile:
    profile = counter if isinstance(counter, Profile) else getattr(counter, "profile", None)
    if not isinstance(profile, Profile):
        raise BudgetError(
            f"{who}: flop_regression.check: expected an OpCounter or a Profile, got {counter!r} "
            f"of type {type(counter).__name__}. Pass the `c` of `with OpCounter(model) as c`."
        )
    need_all_steps(profile, f"{who}: flop_regression.check")
    return profile


def _check_depth(depth: object, who: str) -> None:
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise BudgetError(
            f"{who}: flop_regression.check: expected a depth from 0 up, or None for all modules, got {depth!r} "
            f"of type {type(depth).__name__}. Pass the number of names that a path has at most."
        )


def _sentence(change: Change) -> str:
    before, after = show_apart(change.before, change.after, change.metric)
    place = f"{label(change.path)} " if change.path else ""
    return f"{place}baseline {before}, counted {after} ({show_change(change.before, change.after)})"


def _modules(found: list[Change]) -> int:
    return len({change.path for change in found})
