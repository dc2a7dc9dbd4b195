"""Where a count comes from: the modules that changed, else the biggest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.budget.places import below, biggest_call, label, natural
from opcount.budget.snapshot import Snapshot, changes, own, take
from opcount.budget.units import show, show_apart, show_change
from opcount.escapes import printable, visible
from opcount.reporter.numbers import percent
from opcount.selectors import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount.profile import Profile

_ROWS = {-1: 0, 0: 5, 1: 20}
"""How many modules are shown at each verbosity; all beyond."""


def summarize(profile: Profile, metric: str, path: str | None = None, before: Snapshot | None = None) -> str:
    """Return one sentence: the modules that changed most, else those that cost most; empty without modules."""
    changed = changed_most(before, take(profile), metric)
    if changed:
        return changed
    whole, spent = _spent(profile, metric, path)
    rows = [f"{label(p)}: {show(count, metric)} ({percent(count, whole)})" for p, count in list(spent.items())[:3]]
    return f"Biggest spenders: {', '.join(rows)}." if rows else ""


def changed_most(before: Snapshot | None, after: Snapshot, metric: str) -> str:
    """Return one sentence: the modules that changed most; empty if none did."""
    rows = [f"{label(p)}: {' -> '.join(show_apart(b, a, metric))}" for p, b, a in _changed(before, after, metric)[:3]]
    return f"Changed most: {', '.join(rows)}." if rows else ""


def explain(
    profile: Profile,
    metric: str,
    path: str | None = None,
    before: Snapshot | None = None,
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
    changed = _changed(before, take(profile), metric, parents=verbosity > 1)
    if changed:
        title = f"{UNITS[metric]} of the modules that changed:"
        rows = [(p, f"{' -> '.join(show_apart(b, a, metric))} ({show_change(b, a)})") for p, b, a in changed]
    else:
        whole, spent = _spent(profile, metric, path)
        title = f"{UNITS[metric]} of the biggest modules, each without its children:"
        rows = [(p, f"{show(count, metric)} ({percent(count, whole)})") for p, count in spent.items()]
    lines = list(_table(profile, rows[:limit], calls=len(rows) if verbosity > 0 else 1))
    if lines:
        lines = [title, *lines]
        lines += [f"  and {len(rows) - limit} more (-v)"] if limit is not None and len(rows) > limit else []
    return "\n".join([*lines, f"convention {profile.convention.name}, {profile.coverage.verdict()}"])


def _table(profile: Profile, rows: list[tuple[str, str]], calls: int) -> Iterable[str]:
    """Align names, and show the most expensive call in the first modules."""
    types = {path: f" ({printable(module.type)})" for path, module in profile.modules.items()}
    names = [label(path) + types.get(path, "") for path, _ in rows]
    width = max(map(len, names), default=0)
    for number, ((path, text), name) in enumerate(zip(rows, names, strict=True)):
        yield f"  {name:{width}}  {text}"
        call = biggest_call(below(profile, path).records)
        if number < calls and call is not None:
            within = f" in {label(call.path)}" if call.path != path else ""
            yield f"    {printable(call.operator)} {visible(call.shapes)}{within}".rstrip()


def _spent(profile: Profile, metric: str, path: str | None) -> tuple[int, dict[str, int]]:
    """Return the whole count, and what each module spends without its children."""
    modules = take(profile if path is None else below(profile, path)).modules
    counts = {p: row[metric] for p, row in modules.items() if path is None or _is_in(p, path)}
    return counts.get(path or "", 0), own(counts)


def _is_in(path: str, parent: str) -> bool:
    return not parent or path == parent or path.startswith(f"{parent}.")


def _changed(
    before: Snapshot | None, after: Snapshot, metric: str, *, parents: bool = False
) -> list[tuple[str, int, int]]:
    """Return path, old and new count: of the modules whose children do not explain the change, the largest first."""
    if before is None or (metric == "flops" and before.convention != after.convention):
        return []
    found = {change.path: change for change in changes(before, after, (metric,))}
    if parents:
        paths = sorted(found, key=natural)
    else:
        paths = list(own({path: change.after - change.before for path, change in found.items()}))
    return [(path, found[path].before, found[path].after) for path in paths]
