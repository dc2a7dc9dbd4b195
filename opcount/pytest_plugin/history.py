"""Older counts of the tests: of the last run, from pytest's cache, and of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from opcount.budget.limit import show_apart, show_change
from opcount.budget.verdict import changed_most
from opcount.errors import BaselineError
from opcount.json_reader import MismatchError
from opcount.pytest_plugin.stored_counts import StoredCount, from_data, read, to_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opcount.pytest_plugin.options import Settings
    from opcount.selectors import Tolerance

_KEY = "opcount/last"


class Increase(NamedTuple):
    """A test that computes more than it did.

    Attributes:
        key: The test, and the name of its count.
        text: The sentence.
        option: The option that does not allow it.
    """

    key: str
    text: str
    option: str = ""


class History:
    """Counts of the tests before this run; read when they are first asked for.

    Attributes:
        config: pytest's.
        settings: The command line's.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self._last: dict[str, StoredCount] | None = None
        self._file: dict[str, StoredCount] | None = None

    @property
    def last(self) -> Mapping[str, StoredCount]:
        """The last run of each test that passed, by key."""
        if self._last is None:
            self._last = dict(_readable(self._cached()))
        return self._last

    @property
    def file(self) -> Mapping[str, StoredCount]:
        """Counts in the file of ``--flops-compare``; empty without it.

        Raises:
            pytest.UsageError: It cannot be read.
        """
        if self._file is None:
            path = self.settings.compare
            try:
                self._file = {} if path is None else read(path, "--flops-compare")
            except BaselineError as error:
                raise pytest.UsageError(str(error)) from error
        return self._file

    def before(self, key: str) -> StoredCount | None:
        """Return an older count: of the file that was given, else of the last run."""
        return self.file.get(key) if self.settings.compare else self.last.get(key)

    def increases(self, found: Iterable[StoredCount]) -> list[Increase]:
        """Return the tests that compute more than the command line allows."""
        rows = list(found)
        return [
            *(_increases(rows, self.file, self._compare_fail(), f"than in {self.settings.compare}")),
            *(_increases(rows, self.last, self._on_increase(), "than in its last run")),
        ]

    def keep(self, passed: Iterable[StoredCount]) -> None:
        """Store the counts of tests that passed, for the next run."""
        rows = {measured.key: to_data(measured) for measured in passed}
        cache = getattr(self.config, "cache", None)
        if rows and cache is not None:
            cache.set(_KEY, {**self._cached(), **rows})

    def _compare_fail(self) -> dict[str, Tolerance]:
        return {f"--flops-compare-fail={tolerance.text}": tolerance for tolerance in self.settings.compare_fail}

    def _on_increase(self) -> dict[str, Tolerance]:
        tolerance = self.settings.on_increase
        if tolerance is None or self.settings.update:
            return {}
        return {f"--flops-fail-on-increase={tolerance.text}": tolerance}

    def _cached(self) -> dict[str, Any]:
        cache = getattr(self.config, "cache", None)
        found = cache.get(_KEY, {}) if cache is not None else {}
        return found if isinstance(found, dict) else {}


def _readable(data: Mapping[str, Any]) -> Iterator[tuple[str, StoredCount]]:
    """Skip what an other version stored: a cache may be forgotten."""
    for key, row in data.items():
        try:
            yield key, from_data(row)
        except MismatchError:
            continue


def _increases(
    found: Iterable[StoredCount], before: Mapping[str, StoredCount], tolerances: Mapping[str, Tolerance], than: str
) -> Iterator[Increase]:
    allowed = [(option, metric, tolerance) for option, tolerance in tolerances.items() for metric in tolerance.metrics]
    for measured in found:
        old = before.get(measured.key)
        if old is None or measured.partial:
            continue
        same = old.modules.convention == measured.modules.convention
        for option, metric, tolerance in allowed:
            counts = old.counts[metric], measured.counts[metric]
            if (same or metric != "flops") and not tolerance.allows(*counts):
                yield Increase(measured.key, _sentence(measured, old, metric, than), option)
                break


def _sentence(measured: StoredCount, old: StoredCount, metric: str, than: str) -> str:
    before, after = old.counts[metric], measured.counts[metric]
    left, right = show_apart(before, after, metric)
    most = changed_most(old.modules, measured.modules, metric)
    return f"{measured.key}: {right}, {show_change(before, after).lstrip('+')} more {than} ({left}). {most}"
