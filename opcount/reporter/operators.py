"""The table of operators, the most expensive first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.coverage import FREE, UNCOUNTED
from opcount.escapes import printable
from opcount.records import Total
from opcount.reporter.columns import plain
from opcount.reporter.numbers import percent, si
from opcount.reporter.table import summary

if TYPE_CHECKING:
    from opcount.profile import Profile

_HEADERS = ["operator", "family", "dtype", "calls", "MACs", "arith", "FLOPs", "% FLOPs", "written"]


def render(profile: Profile, *, free: bool = False) -> str:
    """Return the profile as a table of operators, by dtype; uncounted ones come last.

    Args:
        profile: What to print.
        free: Whether to list operators that compute nothing.
    """
    groups: dict[tuple[str, str, str], Total] = {}
    for record in profile.records:
        if free or record.family != FREE:
            key = (record.operator, record.family, record.dtype)
            groups[key] = groups.get(key, Total()) + profile.read(record)
    ranked = sorted(groups.items(), key=lambda item: (item[0][1] == UNCOUNTED, -item[1].flops, -item[1].arith, item[0]))
    rows = [
        [
            *map(printable, key),
            str(total.calls),
            *_numbers(total, counted=key[1] != UNCOUNTED),
            _share(total, profile),
            si(total.bytes, "B"),
        ]
        for key, total in ranked
    ]
    return "\n".join([*plain(_HEADERS, rows, words=3), "", *summary(profile)])


def _numbers(total: Total, *, counted: bool) -> list[str]:
    return [si(total.macs), si(total.arith), si(total.flops)] if counted else ["?", "?", "?"]


def _share(total: Total, profile: Profile) -> str:
    return percent(total.flops, profile.flops)
