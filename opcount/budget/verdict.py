"""The result of a check: an error, a warning or nothing, and the modules that a count comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.budget.baseline import compare_counts, natural, own, take
from opcount.budget.limit import label, noun, show, show_apart, show_change
from opcount.errors import BudgetExceededError
from opcount.escapes import printable, visible
from opcount.profile import parents
from opcount.reporter.numbers import percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount.budget.baseline import ModuleCounts
    from opcount.diff import Change
    from opcount.profile import Profile

_ROWS = {-1: 0, 0: 5, 1: 20}
"""Modules shown by verbosity; all beyond."""


class Failure(NamedTuple):
    """One way in which a profile is not within a budget.

    Attributes:
        text: The sentence, without the name of the test.
        metric: What it is about.
        path: The module; None for the whole count.
    """

    text: str
    metric: str = "macs"
    path: str | None = None


class Verdict(list[Failure]):
    """All ways in which a profile is not within a budget: an empty list if it is.

    Attributes:
        part: The part of the profile that was judged, read under the budget's convention.
    """

    def __init__(self, failures: Iterable[Failure], part: Profile) -> None:
        super().__init__(failures)
        self.part = part

    def error(self, who: str, before: ModuleCounts | None = None, verbosity: int = 0) -> BudgetExceededError:
        """Return the error for the failures: a sentence for each, and the modules behind the first."""
        first = self[0]
        sentences = "; ".join(f"{who}: {failure.text}" for failure in self)
        if not self.part.records:
            return BudgetExceededError(sentences)
        spent = summarize(self.part, first.metric, first.path, before)
        text = f"{sentences} {spent}" if sentences.endswith("?") else f"{sentences}. {spent}"
        return BudgetExceededError(text.rstrip(), explain(self.part, first.metric, first.path, before, verbosity))


def summarize(profile: Profile, metric: str, path: str | None = None, before: ModuleCounts | None = None) -> str:
    """Return one sentence: the modules that changed most, else those that cost most; empty without modules."""
    text = changed_most(before, take(profile), metric)
    if text:
        return text
    whole, spent = _spent(profile, metric, path)
    rows = [f"{label(p)}: {show(count, metric)} ({percent(count, whole)})" for p, count in list(spent.items())[:3]]
    return f"Biggest spenders: {', '.join(rows)}." if rows else ""


def changed_most(before: ModuleCounts | None, after: ModuleCounts, metric: str) -> str:
    """Return one sentence: the modules that changed most; empty if none did."""
    rows = [f"{named(c)}: {_arrow(c, metric)}" for c in _changed(before, after, metric)[:3]]
    return f"Changed most: {', '.join(rows)}." if rows else ""


def explain(
    profile: Profile,
    metric: str,
    path: str | None = None,
    before: ModuleCounts | None = None,
    verbosity: int = 0,
) -> str:
    """Return lines for people: what changed against ``before``, else what costs most, in ``path`` if it is given.

    Args:
        profile: What was counted.
        metric: The one that failed.
        path: Only this module and what is in it.
        before: An older count of the same test.
        verbosity: pytest's: from below 0, no modules, to 2, all modules, the parents of those that changed included.
    """
    limit = _ROWS.get(max(verbosity, -1))
    changed = _changed(before, take(profile), metric, with_parents=verbosity > 1)
    if changed:
        title = f"{noun(metric)} of the modules that changed:"
        rows = [(c.path, named(c), f"{_arrow(c, metric)} ({show_change(*c.values(metric))})") for c in changed]
    else:
        whole, spent = _spent(profile, metric, path)
        title = f"{noun(metric)} of the biggest modules, each without its children:"
        rows = [(p, label(p), f"{show(count, metric)} ({percent(count, whole)})") for p, count in spent.items()]
    lines = list(_table(profile, rows[:limit], calls=len(rows) if verbosity > 0 else 1))
    if lines:
        lines = [title, *lines]
        lines += [f"  and {len(rows) - limit} more (-v)"] if limit is not None and len(rows) > limit else []
    return "\n".join([*lines, f"convention {profile.convention.name}, {profile.coverage.verdict()}"])


def named(change: Change) -> str:
    """Return how a module in two counts is printed: by its path, and the path that it had before."""
    return f"{label(change.path)} (was {label(change.before or '')})" if change.renamed else label(change.path)


def below(profile: Profile, path: str) -> Profile:
    """Return the profile of one module, its children included."""
    return profile.select(lambda record: path in parents(record.path))


def _arrow(change: Change, metric: str) -> str:
    return " -> ".join(show_apart(*change.values(metric), metric))


def _table(profile: Profile, rows: list[tuple[str, str, str]], calls: int) -> Iterable[str]:
    """Align names, and show the most expensive call in the first modules."""
    types = {path: f" ({printable(module.type)})" for path, module in profile.modules.items()}
    names = [name + types.get(path, "") for path, name, _ in rows]
    width = max(map(len, names), default=0)
    for number, ((path, _, text), name) in enumerate(zip(rows, names, strict=True)):
        yield f"  {name:{width}}  {text}"
        records = below(profile, path).records if number < calls else ()
        call = max(records, key=lambda record: record.cost[:2], default=None)
        if call is not None:
            within = f" in {label(call.path)}" if call.path != path else ""
            yield f"    {printable(call.operator)} {visible(call.shapes)}{within}".rstrip()


def _spent(profile: Profile, metric: str, path: str | None) -> tuple[int, dict[str, int]]:
    """Return the whole count, and what each module spends without its children, those that spend nothing left out."""
    rows = take(profile if path is None else below(profile, path)).rows
    counts = {p: row[metric] for p, row in rows.items() if path is None or path in parents(p)}
    return counts.get(path or "", 0), {p: count for p, count in own(counts).items() if count}


def _changed(
    before: ModuleCounts | None, after: ModuleCounts, metric: str, *, with_parents: bool = False
) -> list[Change]:
    """Return the modules whose children do not explain the change, the largest change first."""
    changes = compare_counts(before, after) if before is not None else ()
    found = [change for change in changes if len(set(change.values(metric))) > 1]
    if with_parents:
        return sorted(found, key=lambda change: natural(change.path))
    old = own({c.before: c.values(metric)[0] for c in changes if c.before is not None})
    new = own({c.after: c.values(metric)[1] for c in changes if c.after is not None})
    sizes = [abs((0 if c.after is None else new[c.after]) - (0 if c.before is None else old[c.before])) for c in found]
    ranked = sorted(zip(sizes, found, strict=True), key=lambda row: -row[0])
    return [change for size, change in ranked if size]
