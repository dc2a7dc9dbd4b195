"""The table of mmengine: parameters, FLOPs and activations of modules and parameters, rows without news left out.

Every step looks at each name once, so the time is linear in the modules; nothing asks for the terminal's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opcount.escapes import printable
from opcount.paths import by_parent
from opcount.reporter.columns import framed
from opcount.reporter.numbers import openmmlab

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from opcount.structure import Structure

    Cells = dict[str, str]

_HEADERS = {"flops": "#flops", "acts": "#activations"}


@dataclass(frozen=True)
class Complexity:
    """Contents of the reports in mmengine's layout.

    Attributes:
        structure: The model.
        columns: FLOPs, and perhaps activations, of every module, by the column's short name: ``flops``, ``acts``.
        uncalled: Full names of the modules that no operator ran under, for each column.
    """

    structure: Structure
    columns: Mapping[str, Mapping[str, float]]
    uncalled: Mapping[str, AbstractSet[str]]


def complexity_table(complexity: Complexity, max_depth: int = 3, *, show_param_shapes: bool = True) -> str:
    """Return the table; a newline ends it.

    Args:
        complexity: What to show.
        max_depth: Rows below this depth are left out; a row that stands for its only child uses up no depth.
        show_param_shapes: Show parameters, with their shapes.
    """
    return framed(*complexity_rows(complexity, max_depth, show_param_shapes=show_param_shapes))


def complexity_rows(
    complexity: Complexity, max_depth: int = 3, *, show_param_shapes: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of the table, names and cells indented by their depth."""
    params = "#parameters or shape" if show_param_shapes else "#parameters"
    headers = [params, *(_HEADERS[column] for column in complexity.columns)]
    rows = _pick_rows(_cells(complexity, params, show_param_shapes=show_param_shapes), max_depth)
    return ["module", *headers], [
        [" " * depth + printable(name), *_row(cells, headers, depth)] for depth, name, cells in rows
    ]


def _row(cells: Cells, headers: list[str], depth: int) -> list[str]:
    return [" " * depth + cells[header] if header in cells else "" for header in headers]


def _cells(complexity: Complexity, params: str, *, show_param_shapes: bool) -> dict[str, Cells]:
    """Return the texts of every name that stays, by header: parameters have only one."""
    shapes = complexity.structure.parameters
    table: dict[str, Cells] = {}
    for name, numbers in _without_zeros(_statistics(complexity, params)).items():
        if name in shapes:
            if show_param_shapes:
                table[name] = {params: str(shapes[name])}
            continue
        cells = {header: openmmlab(number) for header, number in numbers.items()}
        for column, uncalled in complexity.uncalled.items():
            if name in uncalled:
                cells[_HEADERS[column]] = ""
        table[name] = cells
    return table


def _statistics(complexity: Complexity, params: str) -> dict[str, dict[str, float]]:
    """Return numbers by name and header: the names with parameters first, then the other modules."""
    columns = {
        params: complexity.structure.params,
        **{_HEADERS[c]: numbers for c, numbers in complexity.columns.items()},
    }
    table: dict[str, dict[str, float]] = {}
    for header, numbers in columns.items():
        for name, number in numbers.items():
            table.setdefault(name, {})[header] = number
    return table


def _without_zeros(statistics: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Drop every name whose numbers are all 0 and whose children are all dropped; the root stays.

    Parents stand before their children, so that one pass from the end knows of a name's children before the name.
    """
    kept = {""}
    for name in reversed(list(statistics)):
        if name in kept or any(statistics[name].values()):
            kept.update((name, name.rpartition(".")[0]))
    return {name: numbers for name, numbers in statistics.items() if name in kept}


def _pick_rows(table: dict[str, Cells], max_depth: int) -> list[tuple[int, str, Cells]]:
    """Return depth, name and texts of the rows; one that says nothing more than its only child gives way to it."""
    children = by_parent(table)
    root, cells = _collapse("", table, children)
    rows = [(0, root or "model", cells)]
    cut = len(root) + 1 if root else 0
    pending = [(1, name) for name in reversed(children.get(root, ()))]
    while pending:
        depth, name = pending.pop()
        if depth > max_depth:
            continue
        name, cells = _collapse(name, table, children)
        rows.append((depth, name[cut:], cells))
        pending += [(depth + 1, child) for child in reversed(children.get(name, ()))]
    return rows


def _collapse(name: str, table: Mapping[str, Cells], children: Mapping[str, list[str]]) -> tuple[str, Cells]:
    cells = table[name]
    while len(children.get(name, ())) == 1:
        child = children[name][0]
        merged = _merge(cells, table[child])
        if merged is None:
            break
        name, cells = child, merged
    return name, cells


def _merge(row: Cells, child: Cells) -> Cells | None:
    """Return the texts of both, if they are of the same kinds and do not contradict each other."""
    if row.keys() != child.keys() or any(text and child[kind] and text != child[kind] for kind, text in row.items()):
        return None
    return {kind: text or child[kind] for kind, text in row.items()}
