"""Totals in words: multiply-accumulates, what they are as FLOPs, and what a convention makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import visible
from opcount.paths import ROOT
from opcount.reporter.numbers import si

if TYPE_CHECKING:
    from opcount.convention import Convention
    from opcount.profile import Profile
    from opcount.records import Total


def amount(total: Total, convention: Convention) -> str:
    """Return MACs with the FLOPs that they are at two for each, and the convention's FLOPs where these are others.

    Example:
        >>> from opcount.convention import FULL, FVCORE
        >>> from opcount.records import Total
        >>> amount(Total(macs=4000, flops=4000), FVCORE)
        '4.000 kMAC = 8.000 kFLOP at 2 per MAC'
        >>> amount(Total(macs=4000, flops=8010, arith=10), FULL)
        '4.000 kMAC = 8.000 kFLOP at 2 per MAC (8.010 kFLOP under full)'
        >>> amount(Total(arith=12), FVCORE)
        '0 MAC, 12 other operations'
    """
    under = (
        ""
        if total.flops in {total.macs, 2 * total.macs}
        else f"{si(total.flops, 'FLOP')} under {visible(convention.name)}"
    )
    if total.macs:
        text = f"{si(total.macs, 'MAC')} = {si(2 * total.macs, 'FLOP')} at 2 per MAC"
        return f"{text} ({under})" if under else text
    other = under or (f"{si(total.arith)} other operations" if total.arith else "")
    return f"0 MAC, {other}" if other else "0 MAC"


def part(total: Total, *, in_macs: bool) -> str:
    """Return the number of a part in the unit of its report; what has only other arithmetic is not said to be nothing.

    Example:
        >>> from opcount.records import Total
        >>> part(Total(macs=4, flops=8), in_macs=True), part(Total(arith=12), in_macs=True)
        ('4 MAC', '12 other operations')
    """
    number, unit = (total.macs, "MAC") if in_macs else (total.flops, "FLOP")
    return f"{si(total.arith)} other operations" if not number and total.arith else si(number, unit)


def in_short(profile: Profile) -> str:
    """Return the model, the totals and how many modules and operators there are, for a ``repr``.

    Example:
        >>> from opcount.profile import Profile
        >>> repr(Profile())
        '<Profile of nothing that ran>'
    """
    root = profile.modules.get(ROOT)
    name = f"of {visible(root.type)}: " if root is not None and root.type else ""
    if not profile.records:
        return f"{name.rstrip(': ')}, nothing ran".lstrip(", ") if name else "of nothing that ran"
    steps = f", {profile.steps.verdict()}" if profile.steps is not None else ""
    params = f", {si(profile.params)} parameters" if profile.params else ""
    return f"{name}{amount(profile.total, profile.convention)}{params}{steps}"


def flops_label(convention: Convention) -> str:
    """Return what a column of FLOPs is called.

    Example:
        >>> from opcount.convention import FVCORE
        >>> flops_label(FVCORE)
        'FLOPs (fvcore)'
    """
    return f"FLOPs ({visible(convention.name)})"
