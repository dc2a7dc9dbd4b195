"""The module table in LaTeX, with the rules of booktabs, for papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import visible
from opcount.reporter.module_columns import columns_of
from opcount.reporter.outline import outline
from opcount.reporter.table import closing_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opcount.profile import Profile
    from opcount.roofline import Roofline

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


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
    r"""Return a ``tabular`` for ``\usepackage{booktabs}``, the totals in comments above it.

    `opcount.reporter.table.render` explains the arguments.
    """
    lines = outline(profile, depth=depth, fold=fold, sort=sort, modules=modules, columns=columns)
    shown = columns_of(profile, lines, columns, roofline)
    alignment = "l" + "".join("r" if column.is_number else "l" for column in shown)
    rows = ([_indented(line.level, line.name), *(_escaped(column.cell(line)) for column in shown)] for line in lines)
    return "\n".join(
        [
            *(f"% {visible(fact)}" for fact in closing_lines(profile, roofline)),
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _row(["module", *(_escaped(column.header) for column in shown)]),
            r"\midrule",
            *map(_row, rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _escaped(text: str) -> str:
    r"""Return text of which nothing is taken for a command.

    Example:
        >>> _escaped("50 % of a_b"), _escaped("\\end")
        ('50 \\% of a\\_b', '\\textbackslash{}end')
    """
    return "".join(_SPECIAL.get(character, character) for character in visible(text))


def _indented(level: int, name: str) -> str:
    return rf"\hspace{{{level}em}}{_escaped(name)}" if level else _escaped(name)


def _row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"
