"""A profile as JSON, and back."""

from __future__ import annotations

import json
from typing import Any

from opcount.convention import find_convention
from opcount.cost import Cost
from opcount.errors import ConventionError, ProfileFormatError
from opcount.profile import Module, Profile, Record
from opcount.steps import Amount, Spread, Steps

SCHEMA = 2
"""Raised when older versions could misread a file; one that they could not misread says 1."""


def dump(profile: Profile, *, indent: int | None = None) -> str:
    """Return the profile as JSON text."""
    steps = {} if profile.steps is None else {"steps": _dump_steps(profile.steps)}
    return json.dumps(
        {
            "format": "opcount.profile",
            "schema": SCHEMA if steps else 1,
            "convention": profile.convention.name,
            "provenance": dict(profile.provenance),
            "unattributed": dict(profile.unattributed),
            "formulas": dict(profile.formulas),
            "modules": [module._asdict() for module in profile.modules.values()],
            "records": _dump_records(profile.records),
            **steps,
        },
        indent=indent,
    )


def _dump_records(records: tuple[Record, ...]) -> list[dict[str, Any]]:
    return [{**record._asdict(), "cost": record.cost._asdict()} for record in records]


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
    """Read what `dump` wrote.

    Raises:
        ProfileFormatError: The text is no profile, or of a newer schema.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ProfileFormatError(
            f"Profile.from_json: expected the JSON that to_json() writes, got {_excerpt(text)} ({error}). "
            f"Write the file again."
        ) from error
    if not isinstance(data, dict) or data.get("format") != "opcount.profile":
        raise ProfileFormatError(
            f"Profile.from_json: expected a profile written by to_json(), got {_excerpt(text)}. "
            f"Pass such a file's text."
        )
    if not isinstance(data.get("schema"), int) or not 1 <= data["schema"] <= SCHEMA:
        raise ProfileFormatError(
            f"Profile.from_json: expected schema 1 to {SCHEMA}, got {data.get('schema')!r}. "
            f"Read the file with the opcount that wrote it, or a newer one."
        )
    try:
        return _build(data)
    except (KeyError, TypeError, AttributeError, ConventionError) as error:
        raise ProfileFormatError(
            f"Profile.from_json: the profile is damaged: {type(error).__name__}: {error}. Write the file again."
        ) from error


def _build(data: dict[str, Any]) -> Profile:
    modules = (Module(**{**row, "aliases": tuple(row["aliases"])}) for row in data["modules"])
    return Profile(
        records=_build_records(data["records"]),
        modules={module.path: module for module in modules},
        convention=find_convention(data["convention"]),
        provenance=data["provenance"],
        unattributed=data["unattributed"],
        formulas=data["formulas"],
        steps=_build_steps(data["steps"]) if data["schema"] > 1 else None,
    )


def _build_records(rows: list[dict[str, Any]]) -> tuple[Record, ...]:
    return tuple(Record(**{**row, "stack": tuple(row["stack"]), "cost": Cost(**row["cost"])}) for row in rows)


def _build_steps(data: dict[str, Any]) -> Steps:
    spread, whole, error = data["spread"], data["extrapolated"], data["error"]
    return Steps(
        data["total"],
        data["measured"],
        data["interrupted"],
        spread and Spread(**{name: Cost(**cost) for name, cost in spread.items()}),
        whole and Amount(**{**whole, "records": _build_records(whole["records"])}),
        error and Cost(**error),
    )


def _excerpt(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
