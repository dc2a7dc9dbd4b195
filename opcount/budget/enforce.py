"""From a profile and a budget to an error, or to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from warnings import warn

from opcount.budget.evidence import explain, summarize
from opcount.budget.watch import Measurement, current
from opcount.errors import BudgetExceededError, UncountedOperatorWarning

if TYPE_CHECKING:
    from opcount.budget.budget import Budget, Failure
    from opcount.profile import Profile


def report(profile: Profile, *budgets: Budget, name: str = "") -> None:
    """Tell the watcher what was counted, and what it is held to."""
    watcher = current()
    if watcher is not None:
        limits = tuple(_worded(budget) for budget in budgets)
        watcher.measurements.append(Measurement(name, profile, limits))


def enforce(budget: Budget, profile: Profile, *, who: str, name: str = "") -> None:
    """Check a profile; warn of uncounted operators that the budget neither permits nor fails over.

    Raises:
        BudgetExceededError: It is not within the budget.
        BudgetError: A pattern of the budget matches no module.
    """
    __tracebackhide__ = True
    failures = budget.check(profile)
    if failures:
        raise failure(budget, profile, failures, who, name)
    if any(not budget.permits(operator) for operator in profile.coverage.uncounted):
        warn(f"{who}: {profile.coverage.verdict()}.", UncountedOperatorWarning, stacklevel=4)


def failure(budget: Budget, profile: Profile, failures: list[Failure], who: str, name: str) -> BudgetExceededError:
    """Return the error for what `Budget.check` found."""
    part = budget.select(profile if budget.convention is None else profile.with_convention(budget.convention))
    watcher = current()
    before = watcher.before(name) if watcher and budget.phase is None else None
    first = failures[0]
    sentences = "; ".join(f"{who}: {found.text}" for found in failures)
    if not part.records:
        return BudgetExceededError(sentences)
    spent = summarize(part, first.metric, first.path, before)
    text = f"{sentences}. {spent}" if not sentences.endswith("?") else f"{sentences} {spent}"
    evidence = explain(part, first.metric, first.path, before, watcher.verbosity if watcher else 0)
    return BudgetExceededError(text.rstrip(), evidence)


def _worded(budget: Budget) -> str:
    """Return all limits of a budget in one line."""
    words = [f"{limit.modules} {limit}" if limit.modules is not None else str(limit) for limit in budget.limits]
    return ", ".join(words) + (f" in {budget.phase}" if budget.phase else "")
