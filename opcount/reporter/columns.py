"""Columns of text, aligned by the width that cells take on a terminal."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from prettytable import PrettyTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def framed(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return left-aligned columns in a frame of ``+``, ``-`` and ``|``; a newline ends it.

    Example:
        >>> print(framed(["module", "#flops"], [["model", "110"], [" fc", " 100"]]).strip())
        +--------+--------+
        | module | #flops |
        +--------+--------+
        | model  | 110    |
        |  fc    |  100   |
        +--------+--------+
    """
    columns = list(_columns([headers, *rows], len(headers)))
    ruler = "+".join(["", *("-" * (most + 2) for most, _ in columns), ""])
    header, *body = (f"| {' | '.join(cells)} |" for cells in zip(*(cells for _, cells in columns), strict=True))
    return "\n".join([ruler, header, ruler, *body, ruler, ""])


def plain(headers: Sequence[str], rows: Iterable[Sequence[str]], words: int | Sequence[bool]) -> Iterator[str]:
    """Yield the lines of a table without a frame.

    Args:
        headers: Of the columns.
        rows: One cell for each column.
        words: The number of left-aligned columns at the start, or whether each one is left-aligned; the others, of
            numbers, are right-aligned.
    """
    columns = (cells for _, cells in _columns([headers, *rows], words))
    header, *body = ("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))
    yield header
    yield "-" * max(map(len, [header, *body]))
    yield from body


def _columns(rows: Sequence[Sequence[str]], words: int | Sequence[bool]) -> Iterator[tuple[int, list[str]]]:
    """Yield the width of each column, and its cells padded to it: on the right in columns of words."""
    for i, cells in enumerate(zip(*rows, strict=True)):
        pad = str.ljust if (i < words if isinstance(words, int) else words[i]) else str.rjust
        text = "".join(cells)
        if text.isascii() and text.isprintable():  # most columns, at once: tables have a row for each module
            most = max(map(len, cells))
            yield most, [pad(cell, most) for cell in cells]
        else:
            widths = list(map(_width, cells))
            most = max(widths)
            yield most, [pad(cell, most - width + len(cell)) for cell, width in zip(cells, widths, strict=True)]


def _width(text: str) -> int:
    return len(text) if text.isascii() and text.isprintable() else _width_of_unicode(text)


@lru_cache(4096)
def _width_of_unicode(text: str) -> int:
    """Return the number of a terminal's columns that a text takes, as PrettyTable measures it: by the frame around."""
    table = PrettyTable(["text"], header=False)
    table.padding_width = 0
    table.add_row([text])
    return len(table.get_string().partition("\n")[0]) - 2
