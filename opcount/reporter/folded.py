"""Folded stacks, ``a;b;operator number`` a line: what flame-graph tools read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.profile import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.profile import Profile, Record

METRICS = ("flops", "macs", "arith", "activations", "calls", "bytes")


def stacks(profile: Profile, metric: str = "flops") -> Iterator[tuple[list[str], int]]:
    """Yield the names from the root to the operator, and a number, of each record that has one.

    Raises:
        ValueError: There is no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}. Pass one of these names.")
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
            names.append(path[len(above) + 1 :] if above and path.startswith(f"{above}.") else path)
        above = path
    phase = [] if record.phase == "forward" else [f"[{record.phase}]"]
    return [*(name for name in names if name), *phase, record.operator]


def render(profile: Profile, metric: str = "flops") -> str:
    """Return the profile as folded stacks, the operator last; phases after forward stand in brackets."""
    sums: dict[str, int] = {}
    for names, number in stacks(profile, metric):
        line = ";".join(name.replace(";", ":").replace(" ", "_").replace("\n", "_") for name in names)
        sums[line] = sums.get(line, 0) + number
    return "".join(f"{line} {number}\n" for line, number in sums.items())
