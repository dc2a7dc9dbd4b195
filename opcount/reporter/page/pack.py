"""Profiles as the plain data that the page's scripts draw."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from opcount.coverage import FREE
from opcount.diff import compare
from opcount.paths import ROOT, parents_first
from opcount.records import COMMAND, Module, Total
from opcount.reporter.circumstances import inputs, settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opcount.profile import Profile

_EXACT = 2**53 - 1
"""The largest whole number up to which JavaScript's numbers hold all."""

_NUMBERS = ("macs", "flops", "activations")
_COLUMNS = ("side", "module", "operator", "phase", "dtype", "shapes", "calls")


def pack(profile: Profile) -> dict[str, Any]:
    """Return one count."""
    paths = list(parents_first(profile.by_module()))
    places = {path: place for place, path in enumerate(paths)}
    modules = [_module([profile], [path], _parent(path, places)) for path in paths]
    return _page([profile], modules, [places])


def pack_diff(before: Profile, after: Profile) -> dict[str, Any]:
    """Return two counts on one tree: the modules of the later one, and those that are gone.

    Raises:
        ConventionError: The profiles are read under different conventions.
    """
    changes = compare(before, after).changes
    old = {change.before: place for place, change in enumerate(changes) if change.before is not None}
    new = {change.after: place for place, change in enumerate(changes) if change.after is not None}
    modules = []
    for change in changes:
        side = old if change.after is None else new
        row = _module([before, after], [change.before, change.after], _parent(change.path, side))
        if change.after is None:
            row["gone"] = True
        elif change.before is None:
            row["isNew"] = True
        elif change.renamed:
            row["before"] = change.before
        modules.append(row)
    return _page([before, after], modules, [old, new])


def _page(
    sides: Sequence[Profile], modules: list[dict[str, Any]], places: Sequence[Mapping[str, int]]
) -> dict[str, Any]:
    operators, phases, dtypes, shapes = _Index(), _Index(), _Index(), _Index()
    for profile in sides:
        for phase in profile.by_phase():
            phases.place(phase)
    metrics = (*_NUMBERS, "traffic") if all(profile.knows_traffic for profile in sides) else _NUMBERS
    rows = [
        (side, places[side][key[0]], operators.place(key[1:3]), phases.place(key[3]), dtypes.place(key[4]), *numbers)
        for side, profile in enumerate(sides)
        for key, numbers in _rows(profile, shapes, metrics)
    ]
    formulas = {name: text for profile in sides for name, text in profile.formulas.items()}
    convention = sides[-1].convention
    return {
        "sides": len(sides),
        "subtitle": _subtitle(sides[-1]),
        "convention": {"name": convention.name, "summary": convention.summary},
        "coverage": _coverage(sides),
        "provenance": list(dict.fromkeys(map(_provenance, sides))),
        "phases": list(phases),
        "operators": [{"name": name, "family": family, "formula": formulas.get(name)} for name, family in operators],
        "dtypes": list(dtypes),
        "shapes": list(shapes),
        "modules": modules,
        "records": {name: [row[i] for row in rows] for i, name in enumerate((*_COLUMNS, *metrics))},
    }


class _Index(dict[Any, int]):
    """Values that occur many times, each stored once; iterates over them in order."""

    def place(self, value: Any) -> int:
        return self.setdefault(value, len(self))


def _module(sides: Sequence[Profile], paths: Sequence[str | None], parent: int | None) -> dict[str, Any]:
    unknown = Module("", "")
    known = [
        profile.modules.get(path, unknown) if path is not None else unknown
        for profile, path in zip(sides, paths, strict=True)
    ]
    path = next(path for path in reversed(paths) if path is not None)
    row = {
        "name": path.rpartition(".")[2],
        "parent": parent,
        "type": known[-1].type or known[0].type,
        "params": [_number(module.params) for module in known],
        "calls": [module.calls for module in known],
    }
    return row | {"aliases": list(known[-1].aliases)} if known[-1].aliases else row


def _rows(profile: Profile, shapes: _Index, metrics: Sequence[str]) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Add up the records that differ in their callers alone; operators that have none of the metrics are left out."""
    sums: dict[tuple[str, ...], Total] = defaultdict(Total)
    first: dict[tuple[str, ...], str] = {}
    for record in profile.records:
        if record.family != FREE or ("traffic" in metrics and record.bytes_read + record.bytes_written):
            key = (record.path, record.operator, record.family, record.phase, record.dtype)
            sums[key] += profile.read(record)
            first.setdefault(key, record.shapes)
    return [
        (key, [shapes.place(first[key]), total.calls, *(_number(getattr(total, name)) for name in metrics)])
        for key, total in sums.items()
    ]


def _number(count: int) -> int | str:
    return count if count <= _EXACT else str(count)


def _parent(path: str, places: Mapping[str, int]) -> int | None:
    return places.get(path.rpartition(".")[0], places[ROOT]) if path else None


def _coverage(sides: Sequence[Profile]) -> list[dict[str, Any]]:
    verdicts = [_verdict(profile) for profile in sides]
    if len(verdicts) == 1 or verdicts[0] == verdicts[1]:
        return verdicts[:1]
    return [{**verdict, "side": side} for side, verdict in zip(("before", "now"), verdicts, strict=True)]


def _verdict(profile: Profile) -> dict[str, Any]:
    coverage, steps = profile.coverage, profile.steps
    words = coverage.verdict() if steps is None else f"{steps.verdict()}; {coverage.verdict()}"
    lacking = coverage.uncounted or coverage.uncalled or coverage.empty or profile.unattributed
    return {
        "complete": not (lacking or (steps and steps.partial)),
        "verdict": words,
    }


def _subtitle(profile: Profile) -> str:
    command = profile.provenance.get(COMMAND, "")
    return "; ".join(filter(None, [inputs(profile), settings(profile), command]))


def _provenance(profile: Profile) -> str:
    return ", ".join(f"{name} {value}" for name, value in profile.provenance.items())
