"""The columns that a report of modules has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.reporter.amounts import flops_label
from opcount.reporter.numbers import percent, si

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opcount.profile import Profile
    from opcount.reporter.outline import ModuleLine

NOT_CALLED = "-"


class Column(NamedTuple):
    """One column beside the modules' names.

    Attributes:
        header: Its heading.
        cell: Returns what it shows of a line.
        is_number: Whether it holds numbers, which are aligned at the right.
    """

    header: str
    cell: Callable[[ModuleLine], str]
    is_number: bool = True


def columns_of(profile: Profile, lines: Sequence[ModuleLine]) -> list[Column]:
    """Return the columns that have something to say: none of zeros alone, and no FLOPs that equal the MACs."""
    totals = [line.total for line in lines]
    columns = [Column("type", lambda line: line.type, is_number=False)]
    if any(line.params for line in lines):
        columns.append(Column("params", lambda line: si(line.params) if line.type else ""))
    if any(total.macs for total in totals):
        columns.append(Column("MACs", lambda line: _counted(line, line.total.macs)))
    share = "MACs"
    if any(total.flops != total.macs for total in totals):
        share = "FLOPs"
        columns.append(Column(flops_label(profile.convention), lambda line: _counted(line, line.total.flops)))
    if any(total.activations for total in totals):
        columns.append(Column("activations", lambda line: _counted(line, line.total.activations)))
    if profile.flops:
        columns.append(Column(f"% {share}", lambda line: _share(line, profile)))
    return columns


def _counted(line: ModuleLine, number: int) -> str:
    return si(number) if line.ran else NOT_CALLED


def _share(line: ModuleLine, profile: Profile) -> str:
    return percent(line.total.flops, profile.flops) if line.ran else NOT_CALLED
