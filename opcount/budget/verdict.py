"""The result of a check: an error, a warning or nothing, and the modules that a count comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.budget.baseline import compare_counts, own, take
from opcount.budget.limit import MEMORY, label, noun, show, show_apart, show_change
from opcount.errors import BudgetExceededError
from opcount.escapes import printable, visible
from opcount.paths import Fold, fold, natural
from opcount.profile import parents
from opcount.reporter.memory import render as table_of_memory
from opcount.reporter.numbers import percent

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from opcount.budget.baseline import ModuleCounts
    from opcount.diff import Change
    from opcount.profile import Profile

_ROWS = {-1: 3, 0: 5, 1: 20}
"""Modules shown by verbosity; all beyond."""


class Failure(NamedTuple):
    """One way in which a profile is not within a budget.

    Attributes:
        text: The sentence, without the name of the test.
        metric: What it is about.
        path: The module; None for the whole count.
        side: ``"over"`` or ``"under"`` a limit; ``"failed"`` where it is another way.
    """

    text: str
    metric: str = "macs"
    path: str | None = None
    side: str = "failed"

    @property
    def sentence(self) -> str:
        """The text without the module."""
        return self.text if self.path is None else self.text.removeprefix(f"{label(self.path)} ")


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
        lines = [f"{who}: {failure.text}" for failure in self.folded()]
        if not self.part.records:
            return BudgetExceededError("\n".join(lines))
        spent = summarize(self.part, first.metric, first.path, before)
        if len(lines) > 1:
            text = "\n".join([*lines, spent])
        else:
            text = f"{lines[0]} {spent}" if lines[0].endswith("?") else f"{lines[0]}. {spent}"
        return BudgetExceededError(text.rstrip(), explain(self.part, first.metric, first.path, before, verbosity))

    def folded(self) -> list[Failure]:
        """Return the failures, those of modules with consecutive numbers that say the same as one."""
        groups: dict[Hashable, list[Failure]] = {}
        for failure in self:
            groups.setdefault(failure.sentence if failure.path is not None else failure, []).append(failure)
        return [one for group in groups.values() for one in _one_for_each_fold(group)]


def summarize(profile: Profile, metric: str, path: str | None = None, before: ModuleCounts | None = None) -> str:
    """Return one sentence: the modules that changed most, else those that cost most; empty without modules."""
    if metric == MEMORY:
        return _what_is_alive(profile)
    text = changed_most(before, take(profile), metric)
    if text:
        return text
    rows = [f"{row.name}: {row.text}" for row in _biggest(profile, metric, path)[:3]]
    return f"Biggest spenders: {', '.join(rows)}." if rows else ""


def _what_is_alive(profile: Profile) -> str:
    """Return one sentence: what the peak of live bytes consists of, and the modules that made most of it."""
    memory = profile.memory
    if memory is None:
        return ""
    parts = sorted(memory.by_category().items(), key=lambda part: -part[1])[:3]
    modules = [(path, size) for path, size in own(memory.by_module()).items() if path and size][:3]
    alive, made = (
        ", ".join(f"{name}: {show(size, MEMORY)} ({percent(size, memory.peak)})" for name, size in rows)
        for rows in (parts, [(label(path), size) for path, size in modules])
    )
    return f"Alive at the peak: {alive}. " + (f"Made by: {made}." if made else "")


def changed_most(before: ModuleCounts | None, after: ModuleCounts, metric: str) -> str:
    """Return one sentence: the modules that changed most; empty if none did."""
    rows = [
        f"{row.name}: {row.text}" + (f" ({', '.join(row.shapes)})" if row.shapes else "")
        for row in _rows_of_changes(_changed(before, after, metric), metric)[:3]
    ]
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
    if metric == MEMORY:
        return table_of_memory(profile)
    limit = _ROWS.get(max(verbosity, -1))
    changed = _changed(before, take(profile), metric, with_parents=verbosity > 1)
    if changed:
        title = f"{noun(metric)} of the modules that changed:"
        rows = _rows_of_changes(changed, metric, profile, with_share=True)
    else:
        title = f"{noun(metric)} of the biggest modules, each without its children:"
        rows = _biggest(profile, metric, path)
    lines = list(_table(profile, rows[:limit], calls=len(rows) if verbosity > 0 else 1 + min(verbosity, 0)))
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


class _Row(NamedTuple):
    """One module, or several with consecutive numbers that say the same.

    Attributes:
        path: Of the first one.
        name: What to print.
        text: Its number, or those before and after.
        shapes: Those that changed.
    """

    path: str
    name: str
    text: str
    shapes: tuple[str, ...] = ()


def _one_for_each_fold(alike: list[Failure]) -> Iterator[Failure]:
    """Yield a failure for each run of modules among some that fail alike."""
    by_path = {failure.path: failure for failure in alike if failure.path is not None}
    if len(by_path) < len(alike):
        yield from alike
        return
    for each in fold(dict.fromkeys(by_path)):
        failure = by_path[each.paths[0]]
        several = f"{label(each.name)}{each.times}, each {failure.sentence}"
        yield failure if len(each.paths) == 1 else failure._replace(text=several)


def _biggest(profile: Profile, metric: str, path: str | None) -> list[_Row]:
    """Return the modules that spend most without their children, equal ones as one row."""
    whole, spent = _spent(profile, metric, path)
    types = {p: module.type for p, module in profile.modules.items()}
    rows = []
    for each in fold({p: (count, types.get(p)) for p, count in spent.items()}):
        count, copies = spent[each.paths[0]], len(each.paths)
        several = " each" if copies > 1 else ""
        text = f"{show(count, metric)}{several} ({percent(copies * count, whole)})"
        rows.append(_Row(each.paths[0], label(each.name) + each.times, text))
    return rows


def _rows_of_changes(
    changes: list[Change], metric: str, profile: Profile | None = None, *, with_share: bool = False
) -> list[_Row]:
    """Return the changed modules, those that changed alike as one row."""
    types = {} if profile is None else {path: module.type for path, module in profile.modules.items()}
    by_path = {change.path: change for change in changes}
    alone = len(by_path) < len(changes)  # a module that is gone, and another in its place
    facts = {
        p: (c.values(metric), c.reshaped, types.get(p), c.before if c.renamed else None is c.before, c.after is None)
        for p, c in by_path.items()
    }
    folds = [Fold(c.path, (c.path,)) for c in changes] if alone else fold(facts)
    firsts = changes if alone else [by_path[each.paths[0]] for each in folds]
    rows = []
    for each, change in zip(folds, firsts, strict=True):
        several = len(each.paths) > 1
        text = " -> ".join(show_apart(*change.values(metric), metric)) + (" each" if several else "")
        text += f" ({show_change(*change.values(metric))})" if with_share else ""
        name = label(each.name) + each.times if several else named(change)
        rows.append(_Row(change.path, name, text, tuple(map(visible, change.reshaped))))
    return rows


def _table(profile: Profile, rows: list[_Row], calls: int) -> Iterable[str]:
    """Align names, and show the shapes that changed, and the most expensive call in the first modules."""
    types = {path: f" ({printable(module.type)})" for path, module in profile.modules.items()}
    names = [row.name + types.get(row.path, "") for row in rows]
    width = max(map(len, names), default=0)
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        yield f"  {name:{width}}  {row.text}"
        yield from (f"    {shape}" for shape in row.shapes)
        records = below(profile, row.path).records if number < calls else ()
        call = max(records, key=lambda record: record.cost[:2], default=None)
        if call is not None:
            within = f" in {label(call.path)}" if call.path != row.path else ""
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
