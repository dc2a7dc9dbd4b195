"""Tables of parameters, as mmengine and fvcore print them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from opcount.escapes import printable
from opcount.paths import by_parent
from opcount.reporter.columns import framed
from opcount.structure import parameter_count

if TYPE_CHECKING:
    from torch import nn


PARAMETER_HEADERS = ["name", "#elements or shape"]


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Return the parameters as a table, modules to ``max_depth`` levels and shapes of parameters; a newline ends it."""
    table = framed(PARAMETER_HEADERS, parameter_rows(model, max_depth))
    width = table.index("\n")
    title = textwrap.wrap(f"parameter count of {type(model).__name__}", width)
    return "".join(f"{line:^{width}}\n" for line in title) + table


def parameter_rows(model: nn.Module, max_depth: int) -> list[list[str]]:
    """Return the rows of the table, names and cells indented by their depth."""
    counts = parameter_count(model)
    shapes = {name: str(tuple(parameter.shape)) for name, parameter in model.named_parameters()}
    children = by_parent(counts)
    rows = [["model", _size(counts[""])]]
    pending = [(1, name) for name in reversed(children.get("", ()))]
    while pending:
        depth, name = pending.pop()
        if depth <= max_depth:
            rows.append([" " * depth + printable(name), " " * depth + shapes.get(name, _size(counts[name]))])
            pending += [(depth + 1, child) for child in reversed(children.get(name, ()))]
    return rows


def _size(elements: int) -> str:
    """Return one decimal with the prefix that begins at a tenth of it: the rule of this table alone."""
    for above, scale, prefix in ((1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K")):
        if elements > above:
            return f"{elements / scale:.1f}{prefix}"
    return str(elements)
