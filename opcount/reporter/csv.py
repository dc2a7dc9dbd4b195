"""The records as comma-separated values: tidy data for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from opcount.escapes import printable

if TYPE_CHECKING:
    from opcount.profile import Profile
    from opcount.roofline import Roofline

_FORMULA = re.compile("'*[=+\\-@\uff0b\uff0d\uff1d\uff20]")
_ON_DEVICE = ("time_floor_seconds", "bound")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def render(profile: Profile, *, roofline: Roofline | None = None) -> str:
    """Return the records of a profile as CSV with a header; `Profile.to_rows` explains the columns.

    Of a roofline, the least seconds of each record and what bounds it are two more columns. Characters that do not show
    are escaped; a text that a spreadsheet would compute has a ``'`` before it.
    """
    file = io.StringIO()
    columns = profile.columns if roofline is None else (*profile.columns, *_ON_DEVICE)
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for record, row in zip(profile.records, profile.to_rows(), strict=True):
        row["stack"] = ";".join(printable(path).replace(";", "\\x3b") for path in record.stack)
        names = {name: printable(cell) for name, cell in row.items() if isinstance(cell, str) and name != "stack"}
        texts = {name: _inert(cell) for name, cell in (row | names).items() if isinstance(cell, str)}
        floor = roofline.floor(record) if roofline is not None else None
        times = {} if floor is None else dict(zip(_ON_DEVICE, (floor.seconds, floor.bound), strict=True))
        writer.writerow(row | texts | times)
    return file.getvalue()


def _inert(cell: str) -> str:
    """Keep a spreadsheet from computing a text."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell
