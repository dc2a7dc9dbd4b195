"""Profiles as the plain data that the page's scripts draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.communication import volume_of
from opcount.convention import CONVENTIONS
from opcount.coverage import FREE
from opcount.devices import known_devices
from opcount.diff import compare
from opcount.paths import ROOT, follows, parents, parents_first
from opcount.records import COMMAND, SENT, Module, stages
from opcount.reporter.circumstances import inputs, per_sample, settings
from opcount.reporter.diff_table import differences
from opcount.roofline import least_traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opcount.convention import Convention
    from opcount.devices import Device
    from opcount.profile import Profile
    from opcount.records import Record

_EXACT = 2**53 - 1
"""The largest whole number up to which JavaScript's numbers hold all."""

_NUMBERS = ("macs", "arith", "activations")
_LIVE = "live"
_BEFORE = "(alive before)"
"""Stands for the operator of what was alive when the block was entered."""

_COLUMNS = ("side", "module", "operator", "phase", "dtype", "shapes", "calls")


def pack(profile: Profile, device: Device | None = None) -> dict[str, Any]:
    """Return one count.

    Args:
        profile: The count.
        device: Whose floors are shown first; None: none are.
    """
    paths = list(parents_first(profile.by_module()))
    places = {path: place for place, path in enumerate(paths)}
    modules = [_module([profile], [path], _parent(path, places)) for path in paths]
    return _page([profile], modules, [places], device)


def pack_diff(before: Profile, after: Profile, device: Device | None = None) -> dict[str, Any]:
    """Return two counts on one tree: the modules of the later one, and those that are gone.

    Raises:
        ConventionError: The profiles are read under different conventions.
    """
    diff = compare(before, after)
    changes = diff.changes
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
    page = _page([before, after], modules, [old, new], device)
    page["coverage"] += [{"complete": False, "verdict": text} for text in differences(diff)]
    return page


def _page(
    sides: Sequence[Profile],
    modules: list[dict[str, Any]],
    places: Sequence[Mapping[str, int]],
    device: Device | None,
) -> dict[str, Any]:
    operators, phases, dtypes, shapes = _Index(), _Index(), _Index(), _Index()
    for profile in sides:
        for phase in profile.by_phase():
            phases.place(phase)
    knows_traffic = all(profile.knows_traffic for profile in sides)
    metrics = (*_NUMBERS, "traffic") if knows_traffic else _NUMBERS
    if any(profile.communication for profile in sides):
        metrics = (*metrics, *SENT)
    live = [profile.memory for profile in sides if profile.memory is not None]
    if len(live) == len(sides):
        metrics = (*metrics, _LIVE)
    rows = [
        (
            side,
            places[side][record.path],
            operators.place((record.operator, record.family)),
            phases.place(record.phase),
            dtypes.place(record.dtype),
            shapes.place(record.shapes),
            *numbers,
        )
        for side, profile in enumerate(sides)
        for record, numbers in _rows(profile, metrics)
    ]
    rows += [
        (
            side,
            next(places[side][path] for path in reversed(list(parents(row.path))) if path in places[side]),
            operators.place((row.operator or _BEFORE, row.category)),
            phases.place(row.phase),
            dtypes.place(""),
            shapes.place(""),
            *[0] * len(metrics),
            _number(row.bytes),
        )
        for side, memory in enumerate(live if _LIVE in metrics else ())
        for row in memory.records
    ]
    _fold(modules, rows)
    formulas = {name: " ".join(text.split()) for profile in sides for name, text in profile.formulas.items()}
    convention = sides[-1].convention
    conventions = list({**CONVENTIONS, convention.name: convention}.values())
    return {
        "sides": len(sides),
        "subtitle": _subtitle(sides[-1]),
        "steps": _steps(sides[-1]),
        "convention": [each.name for each in conventions].index(convention.name),
        "conventions": [_rule(each) for each in conventions],
        "coverage": _coverage(sides),
        "provenance": list(dict.fromkeys(map(_provenance, sides))),
        "phases": list(phases),
        "memory": [
            {"curve": list(map(_number, memory.curve)), "allocations": memory.allocations, "device": memory.device}
            for memory in (live if _LIVE in metrics else ())
        ],
        "operators": [
            {
                "name": name,
                "family": family,
                "formula": formulas.get(name),
                "priced": [int(each.prices_arith(name, family)) for each in conventions],
            }
            for name, family in operators
        ],
        "dtypes": list(dtypes),
        "shapes": list(shapes),
        "modules": modules,
        "records": {name: [row[i] for row in rows] for i, name in enumerate((*_COLUMNS, *metrics))},
        **(_devices(sides, device, list(dtypes)) if knows_traffic else {"devices": [], "device": None}),
        "stages": [
            (phases.place(phase), stage.tokens, stage.least_bytes)
            for phase, stage in stages(sides[-1].provenance).items()
            if phase in phases
        ],
    }


def _rule(convention: Convention) -> dict[str, Any]:
    return {"name": convention.name, "summary": convention.summary, "perMac": convention.flops_per_mac}


def _devices(sides: Sequence[Profile], chosen: Device | None, dtypes: Sequence[str]) -> dict[str, Any]:
    """Return the devices that floors are known for, their peaks in the order of the dtypes."""
    known = {device.name: device for device in known_devices()}
    if chosen is not None:
        known[chosen.name] = chosen
    return {
        "device": None if chosen is None else list(known).index(chosen.name),
        "devices": [
            {
                "name": device.name,
                "bandwidth": device.bandwidth,
                "source": device.source.replace("https://", "").replace("http://", ""),
                "peaks": [device.peak(dtype) if device.has_peak(dtype) else None for dtype in dtypes],
            }
            for device in known.values()
        ],
        "least": [least_traffic(profile.modules) for profile in sides],
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


def _rows(profile: Profile, metrics: Sequence[str]) -> Iterator[tuple[Record, list[Any]]]:
    """Yield the records that have one of the metrics, with their calls and numbers."""
    for record in profile.records:
        traffic = [record.bytes_read + record.bytes_written] if "traffic" in metrics else []
        sent = volume_of(record)[1:] if SENT[0] in metrics else ()
        live = [0] if _LIVE in metrics else []
        if record.family != FREE or any(traffic):
            yield record, [record.calls, *map(_number, (*record.cost, *traffic, *sent)), *live]


def _fold(modules: list[dict[str, Any]], rows: Sequence[tuple[Any, ...]]) -> None:
    """Write into the first of equal siblings with consecutive numbers how many they are; mark what has no number."""
    own: list[list[tuple[Any, ...]]] = [[] for _ in modules]
    for side, module, operator, phase, dtype, _, *numbers in rows:
        own[module].append((side, operator, phase, dtype, *numbers))
    children: list[list[int]] = [[] for _ in modules]
    for place, module in enumerate(modules[1:], 1):
        children[module["parent"]].append(place)
    signatures: dict[Any, int] = {}
    signed = [0] * len(modules)
    for place in reversed(range(len(modules))):  # children before parents
        module = modules[place]
        kept = [child for child in children[place] if not modules[child].get("idle")]
        if place and not kept and not own[place] and not any(map(int, module["params"])):
            module["idle"] = True
        below = tuple((modules[child]["name"], signed[child]) for child in kept)
        facts = *map(tuple, (module["params"], module["calls"])), module["type"], *map(module.get, ("gone", "isNew"))
        signed[place] = signatures.setdefault((facts, tuple(own[place]), below), len(signatures))
        _mark_runs([(modules[child], signed[child]) for child in kept])


def _mark_runs(siblings: Sequence[tuple[dict[str, Any], int]]) -> None:
    first: dict[str, Any] = {}
    before = ("", -1)
    for module, signature in siblings:
        if signature == before[1] and follows(before[0], module["name"]):
            first["run"] = first.get("run", 1) + 1
        else:
            first = module
        before = module["name"], signature


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
    words = "; ".join(filter(None, [_steps(profile), coverage.verdict()]))
    lacking = coverage.uncounted or coverage.uncalled or coverage.empty or profile.unattributed
    return {
        "complete": not (lacking or (steps and steps.partial)),
        "verdict": words,
    }


def _subtitle(profile: Profile) -> str:
    command = profile.provenance.get(COMMAND, "")
    return "; ".join(filter(None, [inputs(profile), settings(profile), *per_sample(profile), command]))


def _steps(profile: Profile) -> str:
    return "" if profile.steps is None else profile.steps.verdict()


def _provenance(profile: Profile) -> str:
    return ", ".join(f"{name} {value}" for name, value in profile.provenance.items())
