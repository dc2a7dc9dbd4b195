"""Text that people write to choose: a quantity ``"4.2 GMAC"``, a tolerance ``"macs:1%"``, a pattern of modules."""

from __future__ import annotations

import fnmatch
import re
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from opcount.errors import InputError
from opcount.escapes import printable
from opcount.profile import ROOT
from opcount.records import SENT, TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opcount.profile import Profile

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
"""Each stands for 1000 of the one before."""

UNITS = {
    "macs": "MAC", "flops": "FLOP", "activations": "ACT", "params": "param", **dict.fromkeys((*TRAFFIC, *SENT), "B")
}  # fmt: skip
"""The unit of each metric that has one. Where several have the same, a quantity does not tell which one it is of."""

_SCALES = {**{prefix: 1000**i for i, prefix in enumerate(PREFIXES)}, "K": 1000}
_BINARY = {f"{prefix.upper()}i": 1024**i for i, prefix in enumerate(PREFIXES) if prefix}
"""Prefixes of bytes: ``"1 GiB"`` is 1,073,741,824 bytes, ``"1 GB"`` 1,000,000,000."""
_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_WILDCARD = re.compile(r"(\*\*\.?|\*|\?|\[!?\]?[^\]]*\])")


def parse(text: str, units: Sequence[str] = ("",)) -> tuple[int, str]:
    """Read a count with a prefix and one of ``units``: what `opcount.reporter.numbers.si` writes, and shorter forms.

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
    value = Decimal(match[1].replace("_", "").replace(",", "")) * (_SCALES | _BINARY)[prefix]
    if value.adjusted() > 30 or value != value.to_integral_value():
        raise InputError(f"parse: expected a whole number of {unit or 'units'}, got {text!r}. Round it.")
    return int(value), unit


class Tolerance(NamedTuple):
    """By how much a count may grow: a percentage, or an absolute number.

    Attributes:
        metrics: The counts that it applies to.
        share: A share of the older count; 0 where an absolute number was written.
        plus: The absolute number; 0 where a percentage was written.
        text: As it was written.
    """

    metrics: tuple[str, ...]
    share: Fraction
    plus: int
    text: str

    @classmethod
    def parse(cls, text: str, metrics: Sequence[str] = tuple(UNITS), default: Sequence[str] = ()) -> Tolerance:
        """Read ``"macs:1%"``, ``"macs:1000"``, ``"macs:5 MMAC"``; the same without a metric where there is a default.

        Args:
            text: A metric, a colon, and a percentage with its ``%`` or an absolute number.
            metrics: The metrics that may be named.
            default: The metrics of a text that names none; empty: it has to name one.

        Raises:
            InputError: It is no tolerance.

        Example:
            >>> by = Tolerance.parse("macs:50%")
            >>> by.allows(100, 150), by.allows(100, 151), str(by), str(Tolerance.parse("macs:1 kMAC"))
            (True, False, '50 %', '1,000')
        """
        name, colon, amount = text.rpartition(":")
        chosen = (name,) if colon else tuple(default)
        if not chosen or not set(chosen) <= set(metrics):
            raise InputError(
                f"expected a metric and by how much it may grow, such as macs:1%, got {text!r}. "
                f"The metrics are {', '.join(metrics)}."
            )
        if percent := _PERCENT.fullmatch(amount):
            return cls(chosen, Fraction(percent[1]) / 100, 0, text)
        units = [UNITS[name], f"{UNITS[name]}s"] if name in UNITS else []
        try:
            count, _ = parse(amount, ("", *units))
        except InputError:
            count = -1
        if count < 0:
            wanted = f"{name}:1% or {name}:COUNT" if name else "a percentage such as 1% or a count such as 1000"
            raise InputError(f"expected {wanted}, got {text!r}. A count is whole and from 0 up; its unit may follow.")
        return cls(chosen, Fraction(0), count, text)

    def allows(self, before: int, after: int) -> bool:
        """Return whether a count has grown within the tolerance, or shrunk."""
        return after <= before + self.share * before + self.plus

    def __str__(self) -> str:
        return f"{self.plus:,}" if self.plus or not self.share else f"{float(100 * self.share):g} %"


class ModulePattern(NamedTuple):
    """A pattern of module paths.

    ``*`` stands for a name of a path or a part of one, ``?`` for one character of a name, ``[0-3]`` for one of these
    characters, and ``**`` for any number of names: ``**.attn`` is ``attn`` at any depth, ``net.**`` everything below
    ``net``. A path that is equal to the pattern matches, whatever its characters.

    Attributes:
        text: The pattern.
    """

    text: str

    def matches(self, path: str) -> bool:
        """Return whether a path is one that the pattern stands for.

        Example:
            >>> pattern = ModulePattern("**.attn.*")
            >>> [path for path in ("attn.qkv", "blocks.0.attn.qkv", "blocks.0.attn") if pattern.matches(path)]
            ['attn.qkv', 'blocks.0.attn.qkv']
        """
        return path == self.text or _compile(self.text).fullmatch(path) is not None

    def find(self, profile: Profile) -> list[str]:
        """Return the paths of the modules that match by path, alias, or their path below the class's name.

        The last is for a count without a model, whose paths all begin with the name of a class.

        Example:
            >>> from opcount.profile import Module, Profile
            >>> profile = Profile(modules={path: Module(path, "Linear") for path in ("", "net", "net.0", "net.0.fc")})
            >>> ModulePattern("net.*").find(profile), ModulePattern("net.**").find(profile)
            (['net.0'], ['net.0', 'net.0.fc'])
        """
        return [path for path, names in _names(profile) if any(map(self.matches, names))]

    def explain_no_match(self, profile: Profile) -> str:
        """Return the sentence for an error about a pattern that matches no module; near names are offered."""
        known = [name for _, names in _names(profile) for name in names if name]
        near = get_close_matches(self.text, known, n=3, cutoff=0.4)
        hint = "The count saw no modules: was the model run inside the test?"
        if known:
            hint = f"{'Near names' if near else 'Modules begin with'}: {', '.join(map(printable, near or known[:5]))}."
        return f"expected a pattern of module paths, got {self.text!r}, which matches none. {hint}"


def _split(word: str, units: Sequence[str]) -> tuple[str, str] | None:
    for unit in units:
        if word == unit:
            return "", unit
    for unit in units:
        prefix = word[: len(word) - len(unit)]
        if word.endswith(unit) and (prefix in _SCALES or (unit == "B" and prefix in _BINARY)):
            return prefix, unit
    return None


def _names(profile: Profile) -> Iterator[tuple[str, list[str]]]:
    """Yield each module's path, and all that it may be called."""
    named = ROOT in profile.modules
    for path in profile.by_module():
        module = profile.modules.get(path)
        aliases = module.aliases if module is not None else ()
        yield path, [path, *aliases, *([] if named else [path.partition(".")[2]])]


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(map(_expression, _WILDCARD.split(pattern))), re.DOTALL)


def _expression(token: str) -> str:
    """Return the regular expression for a wildcard, or for the text between two."""
    wild = {"**.": r"(?:.*\.)?", "**": ".*", "*": "[^.]*", "?": "[^.]"}
    if token in wild:
        return wild[token]
    if _WILDCARD.fullmatch(token):
        return rf"(?!\.){fnmatch.translate(token)[:-2]}"  # without the end of the text
    return re.escape(token)
