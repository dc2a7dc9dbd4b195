"""The module table in GitHub's Markdown, fit for a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.reporter.module_columns import columns_of
from opcount.reporter.outline import outline
from opcount.reporter.table import closing_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opcount.profile import Profile
    from opcount.roofline import Roofline


def render(
    profile: Profile,
    depth: int | None = 2,
    *,
    fold: bool = True,
    sort: str | None = None,
    modules: str | None = None,
    columns: Sequence[str] | None = None,
    roofline: Roofline | None = None,
) -> str:
    """Return the profile as Markdown; `opcount.reporter.table.render` explains the arguments."""
    lines = outline(profile, depth=depth, fold=fold, sort=sort, modules=modules, columns=columns)
    shown = columns_of(profile, lines, columns, roofline)
    rows = (
        [
            code("." * line.level + line.name),
            *(column.cell(line) if column.is_number else escaped(column.cell(line)) for column in shown),
        ]
        for line in lines
    )
    headers = ["module", *(escaped(column.header) for column in shown)]
    left = [True, *(not column.is_number for column in shown)]
    return "\n".join(
        [*table(headers, rows, left), "", *(f"* {escaped(fact)}" for fact in closing_lines(profile, roofline))]
    )


def table(headers: list[str], rows: Iterable[list[str]], words: int | Sequence[bool]) -> Iterator[str]:
    """Yield the lines of a table; its first ``words`` columns are words, the others numbers, or as a list says."""
    left = [i < words for i in range(len(headers))] if isinstance(words, int) else words
    yield _line(headers)
    yield _line(["---" if is_word else "---:" for is_word in left])
    for row in rows:
        yield _line(row)


def code(name: str) -> str:
    """Return a name in a cell of a table; no character of it is taken for markup."""
    fence = "`" * (1 + max(map(len, re.findall("`+", name)), default=0))
    pad = " " if name[:1] in {"`", " "} or name[-1:] in {"`", " "} or len(fence) > 1 else ""
    return f"{fence}{pad}{name.replace('|', chr(92) + '|')}{pad}{fence}"


def escaped(words: str) -> str:
    """Return text in which nothing is taken for markup."""
    return "".join(f"\\{c}" if c in "\\`*_~&<>|#[]" else c for c in words)


def _line(cells_of_row: Iterable[str]) -> str:
    return f"| {' | '.join(cells_of_row)} |"
