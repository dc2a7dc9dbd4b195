"""The general table of a profile: modules, totals, the convention, and whether every operator was accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prettytable import PrettyTable

from opcount.profile import ROOT, Total
from opcount.reporter.numbers import percent, si
from opcount.reporter.structure import children_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opcount.profile import Module, Profile

_HEADERS = ["module", "type", "params", "MACs", "FLOPs", "activations", "% FLOPs"]
_NOT_CALLED = "-"


def render(profile: Profile, depth: int = 3) -> str:
    """Return the profile as text: a table of modules, then the totals.

    Args:
        profile: What to print.
        depth: Modules below this depth are left out; the root is at 0.

    Example:
        >>> from opcount.profile import Profile
        >>> print(render(Profile()).splitlines()[-1])
        coverage: every operator is accounted for
    """
    return "\n".join([*_table(profile, depth), "", *_summary(profile)])


def _table(profile: Profile, depth: int) -> Iterator[str]:
    table = PrettyTable(_HEADERS)
    table.border = False
    table.align = "r"
    table.align["module"] = table.align["type"] = "l"
    table.left_padding_width, table.right_padding_width = 0, 2
    table.add_rows(_rows(profile, depth))
    header, *rows = (line.rstrip() for line in table.get_string().splitlines())
    yield header
    yield "-" * max(map(len, [header, *rows]))
    yield from rows


def _rows(profile: Profile, depth: int) -> list[list[str]]:
    totals = profile.by_module()
    totals.setdefault(ROOT, Total())
    kept = _kept(totals, profile.modules)
    children = children_of({path: None for path in _in_order(totals) if path in kept})
    rows = []
    pending = [(0, ROOT)]
    while pending:
        level, path = pending.pop()
        rows.append(_row(level, path, totals, profile.modules))
        if level < depth:
            pending += [(level + 1, child) for child in reversed(children.get(path, ()))]
    return rows


def _in_order(totals: Mapping[str, Total]) -> dict[str, None]:
    """Return all paths, and their parents before them where a count knows of none."""
    paths: dict[str, None] = {}
    for path in totals:
        missing = []
        while path and path not in paths:
            missing.append(path)
            path = path.rpartition(".")[0]  # noqa: PLW2901  (up to a parent that is known)
        paths.update(dict.fromkeys(reversed(missing)))
    return paths


def _kept(totals: Mapping[str, Total], modules: Mapping[str, Module]) -> set[str]:
    """Return the paths that have a number to show, and their parents."""
    kept = {ROOT}
    for path, total in totals.items():
        known = modules.get(path)
        if any(total[:4]) or (known is not None and known.params):
            while path not in kept:
                kept.add(path)
                path = path.rpartition(".")[0]  # noqa: PLW2901  (up to a parent that is known)
    return kept


def _row(level: int, path: str, totals: Mapping[str, Total], modules: Mapping[str, Module]) -> list[str]:
    total = totals.get(path, Total())
    module = modules.get(path)
    ran = total.calls or (module is not None and module.calls)
    numbers = [si(total.macs), si(total.flops), si(total.activations), percent(total.flops, totals[ROOT].flops)]
    return [
        "  " * level + (path.rpartition(".")[2] or "model"),
        module.type if module else "",
        si(module.params) if module else "",
        *(numbers if ran else [_NOT_CALLED] * len(numbers)),
    ]


def _summary(profile: Profile) -> Iterator[str]:
    total = profile.total
    yield (
        f"total: {si(total.macs, 'MAC')}, {si(total.flops, 'FLOP')}, {si(total.activations)} activations, "
        f"{si(profile.params)} parameters"
    )
    phases = profile.by_phase()
    if len(phases) > 1:
        yield "phases: " + ", ".join(f"{phase} {si(part.flops, 'FLOP')}" for phase, part in phases.items())
    yield f"convention: {profile.convention.name} ({profile.convention.summary})"
    yield f"coverage: {profile.coverage.verdict()}"
