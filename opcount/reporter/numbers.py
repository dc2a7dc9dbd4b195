"""Numbers as text, and back: the one place where counts are formatted."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from opcount.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
"""Each stands for 1000 of the one before."""

_SCALES = {**{prefix: 1000**i for i, prefix in enumerate(PREFIXES)}, "K": 1000}
_OPENMMLAB = ((1e14, 1e15, "P"), (1e11, 1e12, "T"), (1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))
_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")


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
    number, prefix = _scaled(count, digits)
    return f"{number} {prefix}{unit}".rstrip()


def _scaled(count: int, digits: int) -> tuple[str, str]:
    if abs(count) < 1000:
        return str(count), ""
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


def parse(text: str, units: Sequence[str] = ("",)) -> tuple[int, str]:
    """Read a count with a prefix and one of ``units``: what `si` writes, and shorter forms.

    A whole unit wins over a prefix and a unit: with ``MAC`` and ``ACT``, ``"1 MAC"`` is one multiply-accumulate,
    ``"1 MACT"`` a million activations.

    Raises:
        InputError: The text is no such quantity, or no whole number.

    Example:
        >>> parse("4.2 GMAC", ("MAC", "FLOP")), parse("1_500"), parse("1.5K")
        ((4200000000, 'MAC'), (1500, ''), (1500, ''))
    """
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    split = _split(match[2], units) if match else None
    if match is None or split is None:
        wanted = " or ".join(repr(f"4.2 G{unit}") for unit in units)
        raise InputError(
            f"parse: expected a quantity such as {wanted}, got {text!r} of type {type(text).__name__}. "
            f"Write a number, a prefix out of {' '.join(PREFIXES[1:])}, and the unit."
        )
    prefix, unit = split
    value = Decimal(match[1].replace("_", "").replace(",", "")) * _SCALES[prefix]
    if value.adjusted() > 30 or value != value.to_integral_value():
        raise InputError(f"parse: expected a whole number of {unit or 'units'}, got {text!r}. Round it.")
    return int(value), unit


def _split(word: str, units: Sequence[str]) -> tuple[str, str] | None:
    for unit in units:
        if word == unit:
            return "", unit
    for unit in units:
        prefix = word[: len(word) - len(unit)]
        if word.endswith(unit) and prefix in _SCALES:
            return prefix, unit
    return None
