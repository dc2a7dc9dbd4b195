"""A table between ``|``, as fvcore prints its tables and as Markdown shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PADDING = 2
"""A column is wider than its header by this at least."""


def piped(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return columns between ``|``, those of nothing but numbers aligned at the right; no newline ends it.

    Example:
        >>> print(piped(["module", "#flops"], [["model", "110"], [" fc", " 100"], [" act", ""]]))
        | module   |   #flops |
        |:---------|---------:|
        | model    |      110 |
        |  fc      |      100 |
        |  act     |          |
    """
    columns = [_column(header, cells) for header, cells in zip(headers, zip(*rows, strict=True), strict=True)]
    return "\n".join(f"|{'|'.join(line)}|" for line in zip(*columns, strict=True))


def _column(header: str, cells: Sequence[str]) -> list[str]:
    """Return the lines of a column: its header, the ruler, its cells."""
    kinds = set(map(_kind, filter(None, cells)))
    is_number = bool(kinds) and kinds <= {int, float}
    if is_number and float in kinds:
        cells = _at_the_point(cells)
    width = max(len(header) + _PADDING, *map(len, cells))
    texts = [f" {text:{'>' if is_number else '<'}{width}} " for text in (header, *cells)]
    ruler = "-" * (width + 1)
    return [texts[0], f"{ruler}:" if is_number else f":{ruler}", *texts[1:]]


def _kind(text: str) -> type:
    try:
        int(text)
    except ValueError:
        try:
            return float if math.isfinite(float(text)) else str
        except ValueError:
            return str
    return int


def _at_the_point(cells: Sequence[str]) -> list[str]:
    """Format numbers alike, with blanks behind them that bring their points together."""
    texts = [f"{float(cell):g}" if cell else "" for cell in cells]
    behind = [len(text) - text.index(".") - 1 if "." in text else -1 for text in texts]
    return [text + " " * (max(behind) - digits) for text, digits in zip(texts, behind, strict=True)]
