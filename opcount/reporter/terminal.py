"""The general table for a terminal, by rich: colours, bars, and names cut to its width."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opcount.reporter.module_columns import columns_of
from opcount.reporter.outline import outline
from opcount.reporter.table import closing_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opcount.profile import Profile
    from opcount.reporter.module_columns import Column
    from opcount.reporter.outline import ModuleLine
    from opcount.roofline import Roofline

_BAR = 10
_DISPENSABLE = ("activations", "type")
"""Headers of columns that a narrow terminal does without, unless they were asked for."""

_SHORTEST = 16
_GAP = 2
_HEADER, _NAME, _TYPE, _SHARE, _FACT = "bold", "bold cyan", "green", "magenta", "dim"


def is_installed() -> bool:
    """Return whether rich is."""
    return find_spec("rich") is not None


def render(  # noqa: PLR0913  (the options of a table, and the terminal)
    profile: Profile,
    depth: int | None = 3,
    *,
    fold: bool = True,
    sort: str | None = None,
    modules: str | None = None,
    columns: Sequence[str] | None = None,
    roofline: Roofline | None = None,
    width: int = 80,
    encoding: str = "utf-8",
) -> str:
    """Return the table with the terminal's codes; `opcount.reporter.table.render` explains the other arguments.

    Args:
        profile: What to print.
        depth: Modules below this depth are left out.
        fold: Whether equal modules share a line.
        sort: Children in descending order of this number.
        modules: Only modules whose path matches.
        columns: Names of columns.
        roofline: The count on a device.
        width: Of the terminal, in characters.
        encoding: Of the terminal.
    """
    from rich.console import Console  # noqa: PLC0415  (an extra)

    lines = outline(profile, depth=depth, fold=fold, sort=sort, modules=modules, columns=columns)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=10_000, soft_wrap=True, highlight=False, emoji=False)
    shown = columns_of(profile, lines, columns, roofline)
    if columns is None:
        shown = _fitting(shown, lines, width)
    console.print(_table(lines, shown, width, encoding))
    console.print()
    for line in closing_lines(profile, roofline):
        console.print(_closing(line, complete=profile.coverage.complete and not profile.coverage.empty))
    return "\n".join(line.rstrip() for line in file.getvalue().split("\n"))


def _fitting(columns: list[Column], lines: Sequence[ModuleLine], width: int) -> list[Column]:
    """Leave out what a narrow terminal does without."""
    for header in _DISPENSABLE:
        if _least(lines) + _width(columns, lines) > width:
            columns = [column for column in columns if column.header != header]
    return columns


def _table(lines: Sequence[ModuleLine], shown: Sequence[Column], width: int, encoding: str) -> Any:
    from rich import box  # noqa: PLC0415  (an extra)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    labels = list(map(_label, lines))
    taken = _width(shown, lines)
    share = next((column.share for column in shown if column.share is not None), None)
    if share is not None and _least(lines) + taken + _GAP + _BAR > width:
        share = None
    room = max(width - taken - (_GAP + _BAR if share is not None else 0), _least(lines))
    cells = [[column.cell(line) for column in shown] for line in lines]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style=_HEADER, padding=(0, 1, 0, 0))
    table.add_column("module", no_wrap=True)
    for column in shown:
        table.add_column(Text(column.header), justify="right" if column.is_number else "left", no_wrap=True)
    if share is not None:
        table.add_column("", no_wrap=True)
    full = "\u2588" if _can_write("\u2588\u2026", encoding) else "#"
    for line, label, row in zip(lines, labels, cells, strict=True):
        texts = [Text(_cut(label, room, encoding), style=_NAME if line.level < 2 else "")]
        texts += [Text(cell, style=_style(column.header, cell)) for column, cell in zip(shown, row, strict=True)]
        if share is not None:
            texts.append(Text(full * round(_BAR * share(line)), style=_SHARE))
        table.add_row(*texts)
    return table


def _label(line: ModuleLine) -> str:
    return "  " * line.level + line.name


def _least(lines: Sequence[ModuleLine]) -> int:
    """Return the characters that names are given however narrow the terminal is."""
    return min(max(len(_label(line)) for line in lines), _SHORTEST)


def _width(columns: Sequence[Column], lines: Sequence[ModuleLine]) -> int:
    """Return the characters that columns take, with the gaps before them."""
    return sum(_GAP + max(len(column.header), *(len(column.cell(line)) for line in lines)) for column in columns)


def _style(header: str, cell: str) -> str:
    if cell in {"0", "-", "0.0 %"}:
        return _FACT
    return _TYPE if header == "type" else _SHARE if header.startswith("%") else ""


def _closing(line: str, *, complete: bool) -> Any:
    from rich.text import Text  # noqa: PLC0415  (an extra)

    name, colon, rest = line.partition(": ")
    style = {"total": _HEADER, "coverage": "green" if complete else "yellow"}.get(name.partition(" ")[0], "")
    if name in {"convention", "command"}:
        style = _FACT
    if "(assumed;" in rest or name == "warning":
        style = "yellow"
    return Text.assemble((name + colon, "bold" if colon else ""), (rest, style))


def _cut(label: str, room: int, encoding: str) -> str:
    """Shorten a name in its middle: both of its ends tell where it belongs."""
    if len(label) <= room:
        return label
    dots = "\u2026" if _can_write("\u2026", encoding) else "..."
    kept = room - len(dots)
    return f"{label[: kept - kept // 2]}{dots}{label[len(label) - kept // 2 :]}"


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
