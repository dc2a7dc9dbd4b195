"""What one test counted, as plain data: it crosses processes, and lies in files and caches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.budget.snapshot import Snapshot, take
from opcount.budget.units import UNITS
from opcount.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from opcount.budget.watch import Measurement

FORMAT = 1
"""Raised when older versions could misread a file."""


class Measured(NamedTuple):
    """One count of one test.

    Attributes:
        test: The test's node id.
        name: Which of the test's counts: ``""`` for the first without a name.
        limits: What it was held to, for people.
        uncounted: Operators that nothing explains.
        counts: Of the whole, by metric.
        snapshot: Of the modules.
    """

    test: str
    name: str
    limits: list[str]
    uncounted: list[str]
    counts: Mapping[str, int]
    snapshot: Snapshot

    @property
    def key(self) -> str:
        """What makes two counts the same one in two runs."""
        return f"{self.test} {self.name}".rstrip()


def measure(test: str, measurements: Iterable[Measurement]) -> list[Measured]:
    """Freeze the counts of a test, each under a name of its own."""
    found: dict[str, Measured] = {}
    for one in measurements:
        name, number = one.name, 1
        while name in found:
            number += 1
            name = f"{one.name} #{number}".strip()
        snapshot = take(one.profile)
        uncounted = sorted(one.profile.coverage.uncounted)
        found[name] = Measured(test, name, list(one.limits), uncounted, snapshot.modules[""], snapshot)
    return list(found.values())


def to_data(measured: Measured) -> dict[str, Any]:
    """Return a count as JSON has it."""
    snapshot = measured.snapshot
    return {
        "test": measured.test,
        "name": measured.name,
        "convention": snapshot.convention,
        **measured.counts,
        "limits": measured.limits,
        "uncounted": measured.uncounted,
        "modules": {path: list(counts.values()) for path, counts in snapshot.modules.items()},
    }


def from_data(data: Mapping[str, Any]) -> Measured:
    """Read what `to_data` made."""
    modules = {path: dict(zip(UNITS, map(int, row), strict=True)) for path, row in data["modules"].items()}
    return Measured(
        str(data["test"]),
        str(data["name"]),
        list(data["limits"]),
        list(data["uncounted"]),
        modules[""],
        Snapshot(str(data["convention"]), modules),
    )


def dump(found: Iterable[Measured]) -> str:
    """Return counts as the text of a JSON file."""
    tests = [to_data(measured) for measured in found]
    return json.dumps({"format": "opcount.tests", "schema": FORMAT, "tests": tests}, indent=1) + "\n"


def read(path: Path, who: str) -> dict[str, Measured]:
    """Read what `dump` wrote, by key.

    Raises:
        BaselineError: There is no such file, it holds no counts of tests, or those of a newer format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaselineError(
            f"{who}={path}: expected a file that --flops-json wrote, got {type(error).__name__}: {error}. "
            f"Write it again."
        ) from error
    schema = data.get("schema") if isinstance(data, dict) and data.get("format") == "opcount.tests" else None
    if not isinstance(schema, int):
        raise BaselineError(f"{who}={path}: expected a file that --flops-json wrote, got other JSON. Pass such a file.")
    if schema > FORMAT:
        raise BaselineError(
            f"{who}={path}: expected schema 1 to {FORMAT}, got {schema}. "
            f"Read it with the opcount that wrote it, or a newer one."
        )
    try:
        return {measured.key: measured for measured in map(from_data, data["tests"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BaselineError(
            f"{who}={path}: the file is damaged: {type(error).__name__}: {error}. Write it again."
        ) from error
