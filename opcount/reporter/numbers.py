"""Numbers as text: the one place where counts are formatted; `opcount.selectors` reads them."""

from __future__ import annotations

from decimal import Decimal

from opcount.selectors import PREFIXES

_OPENMMLAB = ((1e14, 1e15, "P"), (1e11, 1e12, "T"), (1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))


def openmmlab(count: float, digits: int = 3) -> str:
    """Format a count as the tables of mmengine do: the prefix changes at a tenth of it, and zeros at the end are cut.

    Example:
        >>> openmmlab(100), openmmlab(101), openmmlab(100_001), openmmlab(4_144_854_528)
        ('100', '0.101K', '0.1M', '4.145G')
    """
    for above, scale, prefix in _OPENMMLAB:
        if abs(count) > above:
            return f"{count / scale:.{digits}f}".rstrip("0").rstrip(".") + prefix
    return str(count)


def si(count: int, unit: str = "", digits: int = 3) -> str:
    """Format a count with the prefix that leaves 1 to 999 before the point; below 1000 it is exact.

    Example:
        >>> si(0), si(999), si(1000), si(999_999_600), si(4_200_000_000, "MAC")
        ('0', '999', '1.000 k', '1.000 G', '4.200 GMAC')
    """
    if -1000 < count < 1000:
        return f"{count} {unit}" if unit else str(count)
    number, prefix = _scaled(count, digits)
    return f"{number} {prefix}{unit}".rstrip()


def _scaled(count: int, digits: int) -> tuple[str, str]:
    power = (len(str(abs(count))) - 1) // 3
    text = f"{Decimal(count) / 1000**power:.{digits}f}"
    if abs(Decimal(text)) >= 1000:  # rounded up to the next prefix
        text, power = f"{Decimal(count) / 1000 ** (power + 1):.{digits}f}", power + 1
    if power >= len(PREFIXES):
        return f"{Decimal(count):.{digits}e}", ""
    return text, PREFIXES[power]


def percent(part: float, whole: float) -> str:
    """Format a share; what is not nothing never prints as 0 %, and what is not all never as 100 %.

    Example:
        >>> percent(1, 3), percent(1, 10**9), percent(10**9 - 1, 10**9), percent(2, 2), percent(0, 0)
        ('33.3 %', '<0.1 %', '>99.9 %', '100.0 %', '-')
    """
    if not whole:
        return "-"
    share = 100 * part / whole
    if 0 < share < 0.05:
        return "<0.1 %"
    if 99.95 <= share < 100 and part != whole:
        return ">99.9 %"
    return f"{share:.1f} %"
