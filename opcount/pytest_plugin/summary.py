"""The report at the end of a run: in the terminal, and as a table for a pull request."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opcount.budget.limit import show, show_apart, show_change
from opcount.budget.verdict import changed_most
from opcount.coverage import plural
from opcount.escapes import printable, visible
from opcount.reporter.markdown import code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opcount.pytest_plugin.history import History, Increase
    from opcount.pytest_plugin.stored_counts import StoredCount

_SIDES = {"over": "over its limit", "under": "under its limit", "no baseline": "without a baseline"}
"""Sides on which a count fails, in the words of the verdict."""


def terminal(found: Sequence[StoredCount], top: int | None = None) -> list[str]:
    """Return a line for each count, or for the ``top`` largest."""
    rows = sorted(found, key=lambda m: m.counts["macs"], reverse=True)[:top] if top is not None else found
    counts = [_counts(m, with_flops=bool(_conventions(found))) for m in rows]
    widths = [max(map(len, column)) for column in zip(*counts, strict=True)]
    lines = [
        "  ".join([*map(str.rjust, numbers, widths), visible(m.key), *_remarks(m)])
        for m, numbers in zip(rows, counts, strict=True)
    ]
    hidden = len(found) - len(rows)
    return lines + ([f"and {hidden} more (--flops)"] if hidden else [])


def title(found: Sequence[StoredCount]) -> str:
    """Return the heading of what `terminal` shows."""
    conventions = ", ".join(_conventions(found))
    flops = f" and FLOPs ({visible(conventions)})" if conventions else ""
    return f"MACs{flops} of {plural(len({measured.test for measured in found}), 'test')}"


def _conventions(found: Sequence[StoredCount]) -> list[str]:
    """Return the conventions that read FLOPs other than the MACs; none where a column of them says nothing."""
    differ = any(measured.counts["flops"] != measured.counts["macs"] for measured in found)
    return sorted({measured.modules.convention for measured in found}) if differ else []


def _counts(measured: StoredCount, *, with_flops: bool) -> list[str]:
    return [show(measured.counts[metric], metric) for metric in ("macs", "flops")[: 1 + with_flops]]


def markdown(
    found: Sequence[StoredCount],
    history: History,
    increases: Sequence[Increase],
    place: Callable[[StoredCount], str] = lambda measured: f"{measured.file}:{measured.line}",
) -> str:
    """Return a verdict, a table of all counts, what failed and what changed, as GitHub renders it.

    Args:
        found: The counts.
        history: Older ones.
        increases: Those that grew by more than an option allows.
        place: Returns where a test is, in Markdown.
    """
    grown = {increase.key for increase in increases}
    lines = [f"### {title(found)}", "", f"**{verdict(found, increases)}**", ""]
    conventions = _conventions(found)
    flops = [f"FLOPs ({_cell(', '.join(conventions))})"] if conventions else []
    lines += [f"| {' | '.join(['test', 'MACs', *flops, 'limit', 'verdict', 'change', 'where'])} |"]
    lines += [f"|---|{'---:|' * (1 + len(flops))}---|---|---:|---|"]
    changed: list[str] = []
    for measured in found:
        old = history.before(measured.key)
        cells = [
            _code(measured.key),
            *_counts(measured, with_flops=bool(conventions)),
            _cell(", ".join(measured.limits) or "-"),
            _verdict_of(measured, grown=measured.key in grown),
            _change(measured, old),
            place(measured) if measured.file else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        changed += _changed(measured, old)
    failed = [
        *(f"- **{each.side}** {_code(m.key)}: {_cell(each.text)}" for m in found for each in m.failures),
        *(f"- **increased** {_cell(increase.text)} ({_cell(increase.option)})" for increase in increases),
    ]
    lines += ["", *failed] if failed else []
    if changed:
        lines += ["", "<details><summary>What changed</summary>", "", *changed, "", "</details>"]
    uncounted = sorted({operator for measured in found for operator in measured.uncounted})
    if uncounted:
        lines += ["", f"Without a formula, so that totals are lower bounds: {', '.join(map(_code, uncounted))}."]
    return "\n".join(lines) + "\n"


def verdict(found: Sequence[StoredCount], increases: Sequence[Increase]) -> str:
    """Return one sentence for all counts.

    Example:
        >>> verdict([], [])
        'Passed: no test counted anything.'
    """
    sides = Counter(side for m in found for side in {failure.side for failure in m.failures})
    words = [f"{sides[side]} {words}" for side, words in _SIDES.items() if sides[side]]
    words += [f"{number} {side}" for side, number in sides.items() if side not in _SIDES]
    words += [f"{len(increases)} increased"] if increases else []
    if words:
        return f"Failed: {', '.join(words)} (of {plural(len(found), 'count')})."
    limited = sum(bool(m.limits) for m in found)
    within = f"{limited} within their limits of " if limited else ""
    return f"Passed: {within}{plural(len(found), 'count')}." if found else "Passed: no test counted anything."


def _verdict_of(measured: StoredCount, *, grown: bool) -> str:
    """Return the verdict on one count, in bold where it failed."""
    sides = dict.fromkeys([*(failure.side for failure in measured.failures), *(["increased"] if grown else [])])
    within = "within" if measured.limits else "-"
    return ", ".join(f"**{_cell(side)}**" for side in sides) or within


def _changed(measured: StoredCount, old: StoredCount | None) -> Iterator[str]:
    """Yield a line for a test whose count changed."""
    text = changed_most(old.modules, measured.modules, "macs") if old is not None else ""
    if old is not None and text:
        before, after = show_apart(old.counts["macs"], measured.counts["macs"], "macs")
        yield f"- {_code(measured.key)}: {before} -> {after}. {_cell(text)}"


def _change(measured: StoredCount, old: StoredCount | None) -> str:
    if old is None:
        return "new"
    before, after = old.counts["macs"], measured.counts["macs"]
    return "-" if before == after else show_change(before, after)


def _remarks(measured: StoredCount) -> list[str]:
    """Return the limits of a count, and a remark if it is a lower bound, or of a test that failed."""
    limits = [f"limit {', '.join(measured.limits)}"] if measured.limits else []
    lower = (
        [f"lower bound, without a formula: {', '.join(map(printable, measured.uncounted))}"]
        if measured.uncounted
        else []
    )
    return limits + lower + [failure.side for failure in measured.failures if failure.side == "failed"]


def _code(text: str) -> str:
    return code(visible(text))


def _cell(text: str) -> str:
    """Escape a text for a cell of a table."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
