"""Folded stacks, ``a;b;operator number`` a line: the input of flame-graph tools."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.escapes import printable
from opcount.paths import ROOT
from opcount.records import SENT, TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.profile import Profile
    from opcount.records import Record

METRICS = ("flops", "macs", "arith", "activations", "calls", "bytes", *TRAFFIC, *SENT)
_SEPARATORS = re.compile(r"[ \n]")


def stacks(profile: Profile, metric: str = "flops") -> Iterator[tuple[list[str], int]]:
    """Yield the names from the root to the operator, and a number, of each record that has one.

    Raises:
        ValueError: There is no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}. Pass one of these names.")
    if metric in TRAFFIC:
        profile.check_traffic()
    root = "model" if profile.steps is None else f"model, {profile.steps.verdict()}"
    for record in profile.records:
        number = getattr(profile.read(record), metric)
        if number:
            yield [root, *_names(record)], number


def _names(record: Record) -> list[str]:
    """Return what is called by what; a module's name is what it adds to its caller's path."""
    names: list[str] = []
    above = ROOT
    for path in record.stack:
        if path != above or path != ROOT:
            name = path[len(above) + 1 :] if above and path.startswith(f"{above}.") else path
            names.append(f"'{name}'" if name[:1] in {"", "["} else name)  # what is in brackets is a phase
        above = path
    phase = [] if record.phase == "forward" else [f"[{record.phase}]"]
    return [*names, *phase, record.operator]


def render(profile: Profile, metric: str = "flops") -> str:
    """Return the profile as folded stacks, the operator last; phases after forward stand in brackets."""
    sums: dict[str, int] = {}
    texts = _Texts()
    for names, number in stacks(profile, metric):
        line = ";".join(map(texts.of, names))
        sums[line] = sums.get(line, 0) + number
    return "".join(f"{line} {number}\n" for line, number in sums.items())


class _Texts:
    """Texts of names, without what separates names and numbers; two names never have the same."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        text = self._texts.get(name)
        if text is None:
            text = plain = printable(_SEPARATORS.sub("_", name.replace(";", ":")))
            number = 1
            while text in self._taken:
                number += 1
                text = f"{plain}~{number}"
            self._texts[name] = text
            self._taken.add(text)
        return text
