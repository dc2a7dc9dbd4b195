"""A profile as JSON, and back."""

from __future__ import annotations

import json
from typing import Any

from opcount.convention import find_convention
from opcount.cost import Cost
from opcount.errors import ConventionError, ProfileFormatError
from opcount.profile import Module, Profile, Record

SCHEMA = 1
"""Raised when older versions could misread a file."""


def dump(profile: Profile, *, indent: int | None = None) -> str:
    """Return the profile as JSON text."""
    return json.dumps(
        {
            "format": "opcount.profile",
            "schema": SCHEMA,
            "convention": profile.convention.name,
            "provenance": dict(profile.provenance),
            "unattributed": dict(profile.unattributed),
            "formulas": dict(profile.formulas),
            "modules": [module._asdict() for module in profile.modules.values()],
            "records": [{**record._asdict(), "cost": record.cost._asdict()} for record in profile.records],
        },
        indent=indent,
    )


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
    records = (Record(**{**row, "stack": tuple(row["stack"]), "cost": Cost(**row["cost"])}) for row in data["records"])
    return Profile(
        records=tuple(records),
        modules={module.path: module for module in modules},
        convention=find_convention(data["convention"]),
        provenance=data["provenance"],
        unattributed=data["unattributed"],
        formulas=data["formulas"],
    )


def _excerpt(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
