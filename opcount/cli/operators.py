"""``opcount operators``: what is priced, and by which formula."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import opcount.formulas  # noqa: F401  (registers the formulas)
from opcount.cli.output import write
from opcount.coverage import plural
from opcount.errors import InputError
from opcount.registry import BUILTIN
from opcount.reporter.columns import plain

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print a table of operators, their families and their formulas."""
    rows = [
        [str(target), formula.family, formula.text]
        for target, formulas in sorted(BUILTIN.targets().items(), key=lambda item: str(item[0]))
        for formula in formulas
        if fnmatchcase(str(target), options.pattern)
    ]
    if not rows:
        raise InputError(f"operators: expected a glob that matches a name such as aten.mm, got {options.pattern!r}.")
    lines = [*plain(["operator", "family", "formula"], rows, words=3), "", plural(len(rows), "formula")]
    note = "Others are priced by torch's own tags, declared free, or opened; a count names what is left."
    write("\n".join([*lines, note, ""]), options.output)
    return 0
