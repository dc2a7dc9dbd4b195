"""A diff of two counts as a table: for a terminal, and in Markdown for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.errors import ProfileFormatError
from opcount.escapes import printable, visible
from opcount.records import SENT, TRAFFIC
from opcount.reporter.columns import plain
from opcount.reporter.communication import communication_changes
from opcount.reporter.diff_lines import lines
from opcount.reporter.markdown import code, escaped, table
from opcount.reporter.memory import memory_changes
from opcount.reporter.numbers import si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opcount.diff import Change, Diff
    from opcount.reporter.diff_lines import DiffLine

METRICS = ("macs", "flops", "arith", "activations", "params", "calls", "bytes", *TRAFFIC, *SENT)


def render(diff: Diff, metric: str = "macs", *, fold: bool = True) -> str:
    """Return a diff as text: the changed modules, old and new, in total and by phase.

    Args:
        diff: What `Profile.diff` returned.
        metric: ``"macs"``, ``"flops"``, ``"arith"``, ``"activations"``, ``"params"``, ``"calls"``, ``"bytes"``,
            ``"bytes_read"``, ``"bytes_written"``, ``"traffic"``, ``"buffer_bytes"`` or ``"bus_bytes"``.
        fold: Whether modules with consecutive numbers that changed alike share a line, ``0-31 x32``, that shows their
            sum; and whether a module that is new or gone stands for all inside it.
    """
    shown = shown_lines(diff, metric, fold=fold)
    shapes = _shapes(shown)
    headers = [*_headers(diff, metric), *(["shapes"] if shapes else [])]
    rows = [
        [line.name, *numbers(line.change, metric), *([visible(text)] if shapes else [])]
        for line, text in zip(shown, shapes or [""] * len(shown), strict=True)
    ]
    left = [header in {"module", "shapes"} for header in headers]
    body = list(plain(headers, rows, words=left)) if len(rows) > 1 else [f"no module's {metric} changed"]
    return "\n".join([*body, "", *closing(diff, metric)])


def render_markdown(diff: Diff, metric: str = "macs", *, fold: bool = True) -> str:
    """Return a diff as GitHub's Markdown; `render` explains the arguments."""
    shown = shown_lines(diff, metric, fold=fold)
    shapes = _shapes(shown)
    rows = [
        [code(line.name), *numbers(line.change, metric), *([code(visible(text)) if text else ""] if shapes else [])]
        for line, text in zip(shown, shapes or [""] * len(shown), strict=True)
    ]
    headers = [*_headers(diff, metric), *(["shapes"] if shapes else [])]
    left = [header in {"module", "shapes"} for header in headers]
    body = list(table(list(map(escaped, headers)), rows, left)) if len(rows) > 1 else [f"No module's {metric} changed."]
    lines = [f"* {escaped(line)}" for line in closing(diff, metric)[1:]]
    return "\n".join([f"**{_headline(diff, metric)}**", "", *body, "", *lines])


def numbers(change: Change, metric: str) -> list[str]:
    """Return the old and new numbers of a module and the change between them, in total and by phase."""
    cells = _cells(*change.values(metric))
    if metric != "params" and len(change.phases) > 1:
        for old, new in change.phases.values():
            cells.append(relative(getattr(old, metric), getattr(new, metric)))
    return cells


def _shapes(shown: Sequence[DiffLine]) -> list[str]:
    """Return the shapes that changed, a text for each line; empty where none did."""
    texts = [", ".join(line.change.reshaped) for line in shown]
    return texts if any(texts) else []


def relative(old: int, new: int) -> str:
    """Return a change in percent; a change never prints as none.

    Example:
        >>> relative(100, 112), relative(0, 5), relative(5, 0), relative(7, 7), relative(10**6, 10**6 + 1)
        ('+12.0 %', 'new', '-100.0 %', '=', '+<0.1 %')
    """
    if old == new:
        return "="
    if not old:
        return "new"
    change = 100 * (new - old) / old
    sign = "+" if change > 0 else "-"
    return f"{sign}<0.1 %" if abs(change) < 0.05 else f"{change:+.1f} %"


def _cells(old: int, new: int) -> list[str]:
    difference = new - old
    return [si(old), si(new), f"{'+' if difference > 0 else ''}{si(difference)}", relative(old, new)]


def _headers(diff: Diff, metric: str) -> list[str]:
    phases = list(diff.total.phases) if metric != "params" and len(diff.total.phases) > 1 else []
    return ["module", f"{_named(diff, metric)} before", "after", "change", "change %", *map(printable, phases)]


def shown_lines(diff: Diff, metric: str, *, fold: bool) -> list[DiffLine]:
    """Return the lines of a diff: the whole, and the modules whose number is another."""
    if metric in TRAFFIC and not diff.knows_traffic:
        raise ProfileFormatError(
            f"diff: expected two counts of {metric}, got one that an older opcount wrote, without the bytes read. "
            f"Count again."
        )
    return lines(diff, lambda change: len(set(change.values(metric))) > 1, fold=fold)


def _headline(diff: Diff, metric: str) -> str:
    old, new = diff.total.values(metric)
    return f"{_named(diff, metric)}: {si(old)} -> {si(new)} ({relative(old, new)})"


def _named(diff: Diff, metric: str) -> str:
    """Return a metric's name; FLOPs bear that of their convention."""
    return f"flops ({visible(diff.convention)})" if metric == "flops" else metric


def differences(diff: Diff) -> list[str]:
    """Return a warning for each of the inputs, the mode and the optimizer that is another than before."""
    return [visible(f"warning: {name} before: {old}; after: {new}") for name, old, new in diff.differences]


def closing(diff: Diff, metric: str) -> list[str]:
    """Return the lines below the table: the whole change, the convention, renamed modules, the coverage."""
    renamed = sum(change.renamed for change in diff.changes)
    facts = [_headline(diff, metric), f"convention: {visible(diff.convention)}"]
    if renamed:
        facts.append(f"renamed modules: {renamed}")
    if any(diff.steps):
        facts.append("steps before: {}; after: {}".format(*(words or "all were counted" for words in diff.steps)))
    facts += differences(diff)
    if diff.memory is not None:
        facts += memory_changes(*diff.memory)
    facts += communication_changes(*diff.communication)
    before, after = diff.verdicts
    return [*facts, f"coverage: {after}" if before == after else f"coverage before: {before}; after: {after}"]
