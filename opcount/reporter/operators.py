"""The table of operators, the most expensive first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.coverage import FREE, UNCOUNTED
from opcount.escapes import printable
from opcount.records import Total
from opcount.reporter.amounts import flops_label
from opcount.reporter.columns import plain
from opcount.reporter.numbers import percent, si
from opcount.reporter.table import closing_lines
from opcount.roofline import Floor, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.profile import Profile
    from opcount.roofline import Roofline

_UNKNOWN = "?"
_WORDS = ["operator", "family", "dtype"]
_ON_DEVICE = ["FLOPs (torch)", "traffic", "FLOP/B", "bound", "time floor", "% time"]


def render(profile: Profile, *, free: bool = False, roofline: Roofline | None = None) -> str:
    """Return the profile as a table of operators, by dtype; uncounted ones come last.

    Args:
        profile: What to print.
        free: Whether to list operators that compute nothing.
        roofline: The same count on a device: the operators with their least times, the longest first.
    """
    groups: dict[tuple[str, str, str], Total] = {}
    for record in profile.records:
        if free or roofline is not None or record.family != FREE:
            key = (record.operator, record.family, record.dtype)
            groups[key] = groups.get(key, Total()) + profile.read(record)
    if roofline is not None:
        return _on_device(groups, profile, roofline)
    ranked = sorted(groups.items(), key=lambda item: (item[0][1] == UNCOUNTED, -item[1].flops, -item[1].arith, item[0]))
    columns = _columns(profile, [total for _, total in ranked])
    rows = [
        [
            *map(printable, key),
            *(_UNKNOWN if key[1] == UNCOUNTED and priced else cell(total) for _, cell, priced in columns),
        ]
        for key, total in ranked
    ]
    headers = [*_WORDS, *(header for header, *_ in columns)]
    return "\n".join([*plain(headers, rows, words=len(_WORDS)), "", *closing_lines(profile)])


def _on_device(groups: dict[tuple[str, str, str], Total], profile: Profile, roofline: Roofline) -> str:
    floors: dict[tuple[str, str, str], Floor] = dict.fromkeys(groups, Floor())
    for record in profile.records:
        floors[record.operator, record.family, record.dtype] += roofline.floor(record)
    ranked = sorted(floors.items(), key=lambda item: -item[1].seconds)
    rows = [
        [*map(printable, key), *_floor_cells(groups[key], floor, roofline)]
        for key, floor in ranked
        if floor.seconds or key[1] != FREE
    ]
    return "\n".join([*plain([*_WORDS, *_ON_DEVICE], rows, words=len(_WORDS)), "", *closing_lines(profile, roofline)])


def _floor_cells(total: Total, floor: Floor, roofline: Roofline) -> list[str]:
    return [
        si(2 * total.macs),
        si(total.traffic, "B"),
        f"{total.arithmetic_intensity:.3g}",
        floor.bound or "-",
        duration(floor.seconds),
        percent(floor.seconds, roofline.seconds),
    ]


def _columns(profile: Profile, totals: list[Total]) -> list[tuple[str, Callable[[Total], str], bool]]:
    """Return header, cell and whether a price decides it, of the columns that have something to say."""
    columns: list[tuple[str, Callable[[Total], str], bool]] = [("calls", lambda total: str(total.calls), False)]
    if profile.macs:
        columns.append(("MACs", lambda total: si(total.macs), True))
    if profile.arith:
        columns.append(("arith", lambda total: si(total.arith), True))
    share = "MACs"
    if any(total.flops != total.macs for total in totals):
        share = "FLOPs"
        columns.append((flops_label(profile.convention), lambda total: si(total.flops), True))
    if profile.flops:
        columns.append((f"% {share}", lambda total: percent(total.flops, profile.flops), True))
    if profile.knows_traffic:
        columns.append(("read", lambda total: si(total.bytes_read, "B"), False))
    return [*columns, ("written", lambda total: si(total.bytes_written, "B"), False)]
