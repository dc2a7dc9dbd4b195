"""The tree and the diff for a terminal, by rich: the plain text with colours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from opcount.reporter import diff_table, tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount.diff import Diff
    from opcount.profile import Profile

    Part = tuple[str, str]

_PERCENT = re.compile(r"(<?[0-9.]+ %)")
_HEAD, _NAME, _SHARE, _FACT, _GREW, _SHRANK = "bold", "bold cyan", "magenta", "dim", "red", "blue"


def render_tree(profile: Profile, depth: int | None = None, **options: Any) -> str:
    """Return the tree with the terminal's codes; `opcount.reporter.tree.render` explains the arguments."""
    lines = tree.render(profile, depth, **options).split("\n")
    end = lines.index("")
    return _coded([*map(_of_module, lines[:end]), *map(_closing, lines[end:])])


def render_diff(diff: Diff, metric: str = "macs", *, fold: bool = True) -> str:
    """Return the table of a diff with the terminal's codes: what grew is red, what shrank is blue.

    `opcount.reporter.diff_table.render` explains the arguments.
    """
    lines = diff_table.render(diff, metric, fold=fold).split("\n")
    end = lines.index("")
    changes = [line.change.values(metric) for line in diff_table.shown_lines(diff, metric, fold=fold)]
    head = 2 if end > 1 else end
    rows = (
        [(line, _GREW if new > old else _SHRANK if new < old else "")]
        for line, (old, new) in zip(lines[head:end], changes, strict=False)
    )
    return _coded([*([(line, _HEAD)] for line in lines[:head]), *rows, *map(_closing, lines[end:])])


def _of_module(line: str) -> list[Part]:
    """Return the parts of a line of the tree: its branch, the module, its numbers, its share."""
    trunk = len(line) - len(line.lstrip("|`- "))
    name, colon, facts = line[trunk:].partition(": ")
    module = _FACT if facts in {"not called", "called"} else _NAME if trunk < 8 else ""
    before, share, after = _PERCENT.split(f"{facts} ", maxsplit=1) if _PERCENT.search(facts) else (facts, "", "")
    return [(line[:trunk], _FACT), (name, module), (colon + before, ""), (share, _SHARE), (after.rstrip(), "")]


def _closing(line: str) -> list[Part]:
    name, colon, rest = line.partition(": ")
    style = _FACT if name in {"convention", "command"} else "yellow" if name == "warning" else ""
    return [(name + colon, _HEAD if colon else ""), (rest, style)]


def _coded(lines: Iterable[list[Part]]) -> str:
    from rich.console import Console  # noqa: PLC0415  (an extra)
    from rich.text import Text  # noqa: PLC0415

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=10_000, soft_wrap=True, highlight=False, emoji=False)
    for parts in lines:
        console.print(Text.assemble(*parts))
    return file.getvalue().rstrip("\n")
