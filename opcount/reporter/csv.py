"""The records as comma-separated values: tidy data for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opcount.profile import Profile


def render(profile: Profile) -> str:
    """Return the records of a profile as CSV with a header; `Profile.to_rows` explains the columns."""
    file = io.StringIO()
    writer = csv.DictWriter(file, profile.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(profile.to_rows())
    return file.getvalue()
