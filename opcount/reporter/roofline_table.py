"""The table of a count on a device: modules or operators with the least time that they take, and what bounds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.coverage import FREE
from opcount.escapes import printable
from opcount.reporter.columns import plain
from opcount.reporter.numbers import percent, si
from opcount.reporter.outline import outline
from opcount.roofline import Floor, duration

if TYPE_CHECKING:
    from opcount.profile import Profile
    from opcount.records import Total
    from opcount.roofline import Roofline

_HEADERS = ["FLOPs (torch)", "traffic", "FLOP/B", "bound", "time floor", "% time"]


def render(
    roofline: Roofline, profile: Profile, depth: int | None = 3, *, fold: bool = True, modules: str | None = None
) -> str:
    """Return the modules of a count with their floors.

    Args:
        roofline: The count on a device.
        profile: The same count.
        depth: Modules below this depth are left out; the root is at 0. None: none are.
        fold: Whether equal modules with consecutive numbers share a line.
        modules: A glob: only modules whose path matches, and their parents.
    """
    floors = roofline.by_module()
    rows = []
    for line in outline(profile, depth=depth, fold=fold, modules=modules):
        floor = Floor(*(line.copies * seconds for seconds in floors.get(line.path, Floor())))
        rows.append(["  " * line.level + line.name, line.type, *_cells(line.total, floor, roofline)])
    return "\n".join([*plain(["module", "type", *_HEADERS], rows, words=2), "", *roofline.lines()])


def render_operators(roofline: Roofline, profile: Profile) -> str:
    """Return the operators of a count with their floors, the longest first; those that take no time are left out."""
    totals: dict[tuple[str, str], Total] = {}
    families: dict[tuple[str, str], str] = {}
    for record in profile.records:
        key = record.operator, record.dtype
        totals[key] = totals[key] + profile.read(record) if key in totals else profile.read(record)
        families[key] = record.family
    rows = [
        [printable(key[0]), printable(families[key]), printable(key[1]), *_cells(totals[key], floor, roofline)]
        for key, floor in roofline.by_operator().items()
        if floor.seconds or families[key] != FREE
    ]
    headers = ["operator", "family", "dtype", *_HEADERS]
    return "\n".join([*plain(headers, rows, words=3), "", *roofline.lines()])


def _cells(total: Total, floor: Floor, roofline: Roofline) -> list[str]:
    intensity = total.arithmetic_intensity
    return [
        si(2 * total.macs),
        si(total.traffic, "B"),
        f"{intensity:.3g}" if intensity else "0",
        floor.bound or "-",
        duration(floor.seconds),
        percent(floor.seconds, roofline.seconds),
    ]
