"""Profiles to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from opcount import json_reader as reader
from opcount.convention import CONVENTIONS, Convention, find_convention
from opcount.cost import Cost
from opcount.errors import ConventionError, ProfileFormatError
from opcount.json_reader import MismatchError, parse, structure
from opcount.memory_json import dump_memory, read_memory
from opcount.profile import Profile
from opcount.records import UNKNOWN_TRAFFIC, Collective, Module, Record
from opcount.steps import Amount, Spread, Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.roofline import Floor, Roofline

SCHEMA = 7
"""Incremented when older versions could misread a file. 1 and 2 lack the bytes read; 2 and 4 have steps of a loop; 5
has live memory, and may have steps; 6 has a log of allocations or the allocator's peak, too; 7 has collectives, and may
have all of these.

1 and 2 also lack shapes, windows and trainable parameters of modules.
"""


def dump(profile: Profile, *, indent: int | None = None, roofline: Roofline | None = None) -> str:
    """Return the profile as JSON text; of a roofline, the floors of the same count follow, which no reader needs."""
    steps = {} if profile.steps is None else {"steps": _dump_steps(profile.steps)}
    memory = {} if profile.memory is None else {"memory": dump_memory(profile.memory)}
    groups = {"groups": dict(profile.groups)} if _communicates(profile) else {}
    return json.dumps(
        {
            "format": "opcount.profile",
            "schema": _schema_of(profile),
            "convention": profile.convention.name,
            "provenance": dict(profile.provenance),
            "unattributed": dict(profile.unattributed),
            "formulas": dict(profile.formulas),
            "modules": [_dump_module(module) for module in profile.modules.values()],
            "records": _dump_records(profile.records),
            **steps,
            **memory,
            **groups,
            **({} if roofline is None else {"roofline": _dump_roofline(roofline)}),
        },
        indent=indent,
    )


def _schema_of(profile: Profile) -> int:
    """Return the oldest schema that can hold a profile."""
    if _communicates(profile):
        return SCHEMA
    if profile.memory is not None:
        return 5 if profile.memory.log is None and profile.memory.allocator is None else 6
    return 3 if profile.steps is None else 4


def _communicates(profile: Profile) -> bool:
    whole = profile.steps.whole if profile.steps is not None else None
    records = (*profile.records, *(whole.records if whole else ()))
    return any(r.collective is not None for r in records) or any(m.shards for m in profile.modules.values())


def _dump_module(module: Module) -> dict[str, Any]:
    facts = module._asdict()
    return {name: value for name, value in facts.items() if value or name not in {"weights", "shards"}}


def _dump_roofline(roofline: Roofline) -> dict[str, Any]:
    return {
        "device": asdict(roofline.device),
        "total": _dump_floor(roofline.total),
        "speed_of_light": roofline.speed_of_light,
        "phases": {phase: _dump_floor(floor) for phase, floor in roofline.by_phase().items()},
        "modules": {path: _dump_floor(floor) for path, floor in roofline.by_module().items()},
        "records": [_dump_floor(roofline.floor(record)) for record in roofline.records],
        "without_peak": [[operator, dtype, calls] for (operator, dtype), calls in roofline.without_peak.items()],
    }


def _dump_floor(floor: Floor) -> dict[str, Any]:
    return {**floor._asdict(), "bound": floor.bound}


def _dump_records(records: tuple[Record, ...]) -> list[dict[str, Any]]:
    return [_dump_record(record) for record in records]


def _dump_record(record: Record) -> dict[str, Any]:
    facts = {**record._asdict(), "cost": record.cost._asdict()}
    sent = facts.pop("collective")
    return facts if sent is None else {**facts, "collective": sent._asdict()}


def _dump_steps(steps: Steps) -> dict[str, Any]:
    spread, whole = steps.spread, steps.whole
    return {
        "total": steps.total,
        "measured": steps.measured,
        "interrupted": steps.interrupted,
        "spread": spread and {name: cost._asdict() for name, cost in spread._asdict().items()},
        "extrapolated": whole and {**whole._asdict(), "records": _dump_records(whole.records)},
        "error": steps.error and steps.error._asdict(),
    }


def load(text: str) -> Profile:
    """Read a profile that `dump` wrote.

    Raises:
        ProfileFormatError: The text is not a profile, has a newer schema, or contains an invalid value.
    """
    try:
        data = parse(text)
    except (ValueError, TypeError) as error:
        raise ProfileFormatError(
            f"Profile.from_json: expected the JSON that to_json() writes, got {_excerpt(text)} ({error}). "
            f"Write the file again."
        ) from error
    if not isinstance(data, dict) or data.get("format") != "opcount.profile":
        raise ProfileFormatError(
            f"Profile.from_json: expected a profile written by to_json(), got {_excerpt(text)}. "
            f"Pass such a file's text."
        )
    schema = data.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ProfileFormatError(
            f"Profile.from_json: expected schema 1 to {SCHEMA}, got {schema!r}. "
            f"Read the file with the opcount that wrote it, or a newer one."
        )
    try:
        parts = _READERS[schema]
        return structure(lambda *values: Profile(**dict(zip(parts, values, strict=True))), **parts)(
            {
                "steps": None,
                "memory": None,
                "groups": {},
                **{name: value for name, value in data.items() if name in parts},
            }
        )
    except MismatchError as error:
        raise ProfileFormatError(
            f"Profile.from_json: the profile is damaged: {error}. Write the file again."
        ) from error


def _convention(value: Any) -> Convention:
    try:
        return find_convention(reader.text(value))
    except ConventionError as error:
        names = ", ".join(map(repr, CONVENTIONS))
        raise MismatchError(f"one of the conventions {names}", value) from error


def _module_table(value: Any, read: Callable[[Any], tuple[Module, ...]] | None = None) -> dict[str, Module]:
    rows = (read or _read_modules)(value)
    table = {module.path: module for module in rows}
    if len(table) != len(rows):
        paths = [module.path for module in rows]
        raise MismatchError("each path once", next(path for path in table if paths.count(path) > 1))
    return table


def _spread(first: Cost, least: Cost, most: Cost) -> Spread:
    if any(low > high for low, high in zip(least, most, strict=True)):
        raise MismatchError("no more in least than in most", list(least))
    return Spread(first, least, most)


def _steps(total: int, measured: int, *rest: Any) -> Steps:
    if measured > total:
        raise MismatchError(f"no more measured steps than {total}", measured)
    return Steps(total, measured, *rest)


def _none(value: Any) -> None:
    if value is not None:
        raise MismatchError("none in a file of this schema", value)


def _none_known(value: Any) -> dict[str, Any]:
    if value:
        raise MismatchError("none in a file of this schema", value)
    return {}


def _excerpt(text: object) -> str:
    shown = repr(text[:60] if isinstance(text, str) else text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


_read_counts, _read_words = reader.mapping(reader.whole_number), reader.mapping(reader.text)
_read_cost = structure(Cost, macs=reader.whole_number, arith=reader.whole_number, activations=reader.whole_number)
_KEY: dict[str, Callable[[Any], Any]] = {
    "stack": reader.sequence(reader.text, least=1),
    "operator": reader.text,
    "family": reader.text,
    "phase": reader.text,
    "dtype": reader.text,
    "calls": reader.whole_number,
    "cost": _read_cost,
}
_of_schema_3: dict[str, Callable[[Any], Any]] = {
    "bytes_written": reader.whole_number,
    "shapes": reader.text,
    **dict.fromkeys(["bytes_read", "repeated", "causal"], reader.whole_number),
}
_read_record = structure(Record, **_KEY, **_of_schema_3)
_read_records = reader.sequence(_read_record)
_read_collective = structure(
    Collective,
    kind=reader.text,
    group=reader.text,
    ranks=reader.whole_number,
    issued=reader.optional(reader.text),
    buffer_bytes=reader.whole_number,
)
_read_sending_record = structure(Record, **_KEY, **_of_schema_3, collective=_read_collective)


def _read_any_record(value: Any) -> Record:
    """Read a record; one that communicates nothing has no collective."""
    return (_read_sending_record if type(value) is dict and "collective" in value else _read_record)(value)


_read_all_records = reader.sequence(_read_any_record)
_read_old_records = reader.sequence(structure(Record, **_KEY, bytes=reader.whole_number, shapes=reader.text))
_MODULE: dict[str, Callable[[Any], Any]] = {
    "path": reader.text,
    "type": reader.text,
    "params": reader.whole_number,
    "calls": reader.whole_number,
    "aliases": reader.sequence(reader.text),
}
_MORE: dict[str, Callable[[Any], Any]] = {
    "trainable": reader.whole_number,
    "param_bytes": reader.whole_number,
    "kernel": reader.text,
    "inputs": reader.text,
    "outputs": reader.text,
}
_read_shard = reader.sequence(lambda value: (reader.text if type(value) is str else reader.whole_number)(value))
_read_complete_module = structure(Module, **_MODULE, **_MORE, weights=reader.text, shards=reader.sequence(_read_shard))


def _read_module(value: Any) -> Module:
    """Read a module; one without parameters of its own has no shapes of them, and may have no parts of any."""
    return _read_complete_module({"weights": "", "shards": [], **value} if type(value) is dict else value)


_read_modules = reader.sequence(_read_module)
_read_old_modules = reader.sequence(structure(Module, **_MODULE))


def _steps_of(read_records: Callable[[Any], Any]) -> Callable[[Any], Steps]:
    return structure(
        _steps,
        total=reader.whole_number,
        measured=reader.whole_number,
        interrupted=reader.whole_number,
        spread=reader.optional(structure(_spread, first=_read_cost, least=_read_cost, most=_read_cost)),
        extrapolated=reader.optional(
            structure(Amount, records=read_records, calls=_read_counts, unattributed=_read_counts)
        ),
        error=reader.optional(_read_cost),
    )


def _old_provenance(value: Any) -> dict[str, str]:
    return {**_read_words(value), UNKNOWN_TRAFFIC: "not counted"}


_PARTS: dict[str, Callable[[Any], Any]] = {
    "records": _read_records,
    "modules": _module_table,
    "convention": _convention,
    "provenance": _read_words,
    "unattributed": _read_counts,
    "formulas": _read_words,
    "groups": _none_known,
}
_OLD_PARTS: dict[str, Callable[[Any], Any]] = {
    **_PARTS,
    "records": _read_old_records,
    "modules": partial(_module_table, read=_read_old_modules),
    "provenance": _old_provenance,
}
_READERS: dict[int, dict[str, Callable[[Any], Any]]] = {
    1: {**_OLD_PARTS, "steps": _none, "memory": _none},
    2: {**_OLD_PARTS, "steps": _steps_of(_read_old_records), "memory": _none},
    3: {**_PARTS, "steps": _none, "memory": _none},
    4: {**_PARTS, "steps": _steps_of(_read_records), "memory": _none},
    5: {**_PARTS, "steps": reader.optional(_steps_of(_read_records)), "memory": read_memory},
    6: {
        **_PARTS,
        "steps": reader.optional(_steps_of(_read_records)),
        "memory": read_memory,
    },
    7: {
        **_PARTS,
        "records": _read_all_records,
        "steps": reader.optional(_steps_of(_read_all_records)),
        "memory": reader.optional(read_memory),
        "groups": reader.mapping(reader.sequence(reader.whole_number)),
    },
}
"""Readers of the parts of a profile, by schema."""
