"""The counts of one test as plain data, for other processes, files and caches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from opcount import json_reader as reader
from opcount.budget.baseline import STORED, Counts, ModuleCounts, take
from opcount.errors import BaselineError
from opcount.json_reader import MismatchError, parse, structure
from opcount.profile import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from opcount.budget.watch import Measurement

FORMAT = 1
"""Raised when older versions could misread a file."""


class Shortfall(NamedTuple):
    """One way in which a count is not what it was held to.

    Attributes:
        side: ``"over"``, ``"under"``, or another word.
        text: The sentence.
    """

    side: str
    text: str


class StoredCount(NamedTuple):
    """One count of one test.

    Attributes:
        test: The test's node id.
        name: The budget's; ``""`` for the first without one.
        limits: Its limits, for people.
        uncounted: Operators that nothing explains.
        modules: The counts of each module.
        failures: What it was held to and is not.
        partial: Whether the test failed for another reason, so that there might have been more to count.
        file: The test's, relative to pytest's root; empty where nobody knows it.
        line: Where the test begins, or where it failed.
    """

    test: str
    name: str
    limits: list[str]
    uncounted: list[str]
    modules: ModuleCounts
    failures: tuple[Shortfall, ...] = ()
    partial: bool = False
    file: str = ""
    line: int = 0

    @property
    def counts(self) -> Counts:
        """The whole count, by metric."""
        return self.modules.rows[ROOT]

    @property
    def key(self) -> str:
        """The identity of a count across runs."""
        return f"{self.test} {self.name}".rstrip()


def freeze(test: str, measurements: Iterable[Measurement]) -> list[StoredCount]:
    """Freeze the counts of a test, each under a name of its own."""
    found: dict[str, StoredCount] = {}
    for one in measurements:
        name, number = one.name, 1
        while name in found:
            number += 1
            name = f"{one.name} #{number}".strip()
        modules = take(one.profile)
        uncounted = sorted(one.profile.coverage.uncounted)
        failures = tuple(Shortfall(*failure) for failure in one.failures)
        found[name] = StoredCount(test, name, list(one.limits), uncounted, modules, failures)
    return list(found.values())


def to_data(measured: StoredCount) -> dict[str, Any]:
    """Return a count as JSON has it."""
    return {
        "test": measured.test,
        "name": measured.name,
        "convention": measured.modules.convention,
        **dict(zip(STORED, _row(measured.counts), strict=True)),
        "limits": measured.limits,
        "uncounted": measured.uncounted,
        "modules": {path: _row(counts) for path, counts in measured.modules.rows.items()},
        "weights": dict(measured.modules.weights),
        "failures": [list(failure) for failure in measured.failures],
        "partial": measured.partial,
        "file": measured.file,
        "line": measured.line,
    }


def _row(counts: Counts) -> list[int]:
    return [counts[metric] for metric in STORED]


def from_data(data: object) -> StoredCount:
    """Read what `to_data` made.

    Raises:
        MismatchError: It is something else.
    """
    if isinstance(data, dict):
        data = {name: value for name, value in data.items() if name in _PARTS}  # what follows from them is written, too
        data = {**_ABSENT, **data}
    return _read_measured(data)


def dump(found: Iterable[StoredCount]) -> str:
    """Return counts as the text of a JSON file."""
    tests = [to_data(measured) for measured in found]
    return json.dumps({"format": "opcount.tests", "schema": FORMAT, "tests": tests}, indent=1) + "\n"


def read(path: Path, who: str) -> dict[str, StoredCount]:
    """Read what `dump` wrote, by key.

    Raises:
        BaselineError: There is no such file, it holds no counts of tests, or those of a newer format.
    """
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaselineError(
            f"{who}={path}: expected a file that --flops-json wrote, got {type(error).__name__}: {error}. "
            f"Write it again."
        ) from error
    schema = data.get("schema") if isinstance(data, dict) and data.get("format") == "opcount.tests" else None
    if type(schema) is not int or schema < 1:
        raise BaselineError(f"{who}={path}: expected a file that --flops-json wrote, got other JSON. Pass such a file.")
    if schema > FORMAT:
        raise BaselineError(
            f"{who}={path}: expected schema 1 to {FORMAT}, got {schema}. "
            f"Read it with the opcount that wrote it, or a newer one."
        )
    try:
        return {m.key: m for m in _read_file({"tests": data.get("tests")}) if not m.partial}
    except MismatchError as error:
        raise BaselineError(f"{who}={path}: the file is damaged: {error}. Write it again.") from error


def _measured(
    test: str,
    name: str,
    convention: str,
    limits: tuple[str, ...],
    uncounted: tuple[str, ...],
    modules: Mapping[str, Counts],
    weights: Mapping[str, str],
    *rest: Any,
) -> StoredCount:
    counts = ModuleCounts(convention, modules, weights=weights)
    return StoredCount(test, name, list(limits), list(uncounted), counts, *rest)


def _modules(value: object) -> dict[str, Counts]:
    modules = reader.mapping(_counts)(value)
    if "" not in modules:
        raise MismatchError("a row of the model, ''", list(modules))
    return modules


def _counts(value: object) -> Counts:
    counts = reader.sequence(reader.whole_number)(value)
    if len(counts) != len(STORED):
        raise MismatchError(f"{len(STORED)} counts", value)
    return dict(zip(STORED, counts, strict=True))


def _shortfall(value: object) -> Shortfall:
    words = reader.sequence(reader.text)(value)
    if len(words) != len(Shortfall._fields):
        raise MismatchError("a word and a sentence", value)
    return Shortfall(*words)


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise MismatchError("true or false", value)


_PARTS: dict[str, Callable[[Any], Any]] = {
    "test": reader.text,
    "name": reader.text,
    "convention": reader.text,
    "limits": reader.sequence(reader.text),
    "uncounted": reader.sequence(reader.text),
    "modules": _modules,
    "weights": reader.mapping(reader.text),
    "failures": reader.sequence(_shortfall),
    "partial": _truth,
    "file": reader.text,
    "line": reader.whole_number,
}
_ABSENT: dict[str, Any] = {"weights": {}, "failures": [], "partial": False, "file": "", "line": 0}
"""Values for the parts that a file of an older version lacks."""

_read_measured = structure(_measured, **_PARTS)
_read_file: Callable[[Any], list[StoredCount]] = structure(list, tests=reader.sequence(from_data))
