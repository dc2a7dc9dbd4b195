"""The records as comma-separated values: tidy data for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from opcount.escapes import printable

if TYPE_CHECKING:
    from opcount.profile import Profile

_FORMULA = re.compile("'*[=+\\-@\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def render(profile: Profile) -> str:
    """Return the records of a profile as CSV with a header; `Profile.to_rows` explains the columns.

    Characters that do not show are escaped; a text that a spreadsheet would compute has a ``'`` before it.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, profile.columns, lineterminator="\n")
    writer.writeheader()
    for record, row in zip(profile.records, profile.to_rows(), strict=True):
        row["stack"] = ";".join(printable(path).replace(";", "\\x3b") for path in record.stack)
        names = {name: printable(cell) for name, cell in row.items() if isinstance(cell, str) and name != "stack"}
        texts = {name: _inert(cell) for name, cell in (row | names).items() if isinstance(cell, str)}
        writer.writerow(row | texts)
    return file.getvalue()


def _inert(cell: str) -> str:
    """Keep a spreadsheet from computing a text."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell
