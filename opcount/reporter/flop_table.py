"""The table of ``torch.utils.flop_counter``: modules, their operators below them, one unit for all numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GLOBAL = "Global"
"""Row of all that ran, in modules and outside of them."""

_HEADERS = ("Module", "FLOP", "% Total")
_SUFFIXES = ("", "K", "M", "B", "T")
_PADDING = 2
"""A column is wider than its header by this at least."""


def flop_table(counts: Mapping[str, Mapping[object, int]], depth: int | None) -> str:
    """Return FLOPs by module and operator; the row of all that ran only where no module accounts for it.

    Args:
        counts: By module, `GLOBAL` among them, and operator.
        depth: Of the modules that get rows; None: of any depth.

    Example:
        >>> print(flop_table({"Global": {"aten.mm": 24000}, "Net": {"aten.mm": 18000}}, depth=2))
        Module          FLOP    % Total
        -----------  -------  ---------
        Global       24.000K    100.00%
         - aten.mm   24.000K    100.00%
         Net         18.000K     75.00%
          - aten.mm  18.000K     75.00%
    """
    total = sum(counts[GLOBAL].values())
    shown = [name for name in sorted(counts) if name != GLOBAL and (depth is None or name.count(".") < depth)]
    rows: list[tuple[str, int]] = []
    whole = any(sum(counts[name].values()) >= total for name in shown)
    if not whole:
        rows += _rows(GLOBAL, counts[GLOBAL], 0)
    for name in shown:
        rows += _rows(name, counts[name], name.count(".") + (not whole))
    power = _power(total)
    return _aligned([(name, _scaled(flops, power), _share(flops, total)) for name, flops in rows])


def _rows(name: str, operators: Mapping[object, int], indent: int) -> Iterable[tuple[str, int]]:
    blanks = " " * indent
    yield blanks + printable(name), sum(operators.values())
    for operator, flops in operators.items():
        yield f"{blanks} - {printable(str(operator))}", flops


def _power(total: int) -> int:
    """Return which suffix serves all rows: the largest has two digits or more before its point."""
    return max(0, min((len(str(total)) - 2) // 3, len(_SUFFIXES) - 1))


def _scaled(flops: int, power: int) -> str:
    return f"{flops / 1000**power:.3f}{_SUFFIXES[power]}" if power else str(flops)


def _share(flops: int, total: int) -> str:
    return f"{flops / total:.2%}" if total else "0%"


def _aligned(rows: Sequence[tuple[str, str, str]]) -> str:
    """Return columns, the first aligned at the left and the others at the right, under headers and a ruler."""
    columns = [
        [header, "-" * width, *cells]
        for header, cells in zip(_HEADERS, zip(*rows, strict=True), strict=True)
        for width in [max(len(header) + _PADDING, *map(len, cells))]
    ]
    widths = [len(ruler) for _, ruler, *_ in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join((a.ljust(widths[0]), b.rjust(widths[1]), c.rjust(widths[2]))) for a, b, c in lines)
