"""One run of pytest, in the process that reports, and in each that runs tests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from opcount.budget import baseline
from opcount.budget.watch import Watcher
from opcount.coverage import plural
from opcount.errors import BaselineError
from opcount.pytest_plugin import github, summary
from opcount.pytest_plugin.history import History
from opcount.pytest_plugin.marker import SharedCounts
from opcount.pytest_plugin.regression import baseline_path
from opcount.pytest_plugin.stored_counts import StoredCount, dump, from_data

if TYPE_CHECKING:
    from pathlib import Path

    from opcount.budget.baseline import ModuleCounts
    from opcount.pytest_plugin.history import Increase
    from opcount.pytest_plugin.options import Settings


class Run:
    """State that all tests of a run share.

    Attributes:
        config: pytest's.
        settings: The command line's.
        history: Older counts.
        shared: Counts of tests that share a budget.
        found: The counts that were reported, by test.
        passed: The tests that passed.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.history = History(config, settings)
        self.shared = SharedCounts()
        self.found: dict[str, list[StoredCount]] = {}
        self.passed: set[str] = set()
        self.increases: list[Increase] = []
        self.problems: list[str] = []

    @property
    def reports(self) -> bool:
        """True if this process reports: an xdist worker leaves that to its controller."""
        return not hasattr(self.config, "workerinput")

    def before(self, item: pytest.Item, name: str) -> ModuleCounts | None:
        """Return an older count of a test: its baseline file, else a file to compare with, else its last run."""
        try:
            stored = baseline.read(baseline_path(item, name))
        except BaselineError:  # whoever checks it says so
            stored = None
        if stored is not None:
            return stored
        older = self.history.before(f"{item.nodeid} {name}".rstrip())
        return older.modules if older is not None else None

    def collect(self, report: pytest.TestReport) -> None:
        """Take the counts out of a test's report; a rerun takes the place of the run before."""
        if report.when == "call":
            self.found[report.nodeid] = [from_data(row) for row in getattr(report, "opcount", [])]
            self.passed.discard(report.nodeid)
            if report.passed:
                self.passed.add(report.nodeid)

    @property
    def measured(self) -> list[StoredCount]:
        """All counts, in the order of the tests."""
        return [measured for rows in self.found.values() for measured in rows]

    def finish(self, session: pytest.Session) -> None:
        """Compare with older counts, and write the files that the command line asks for."""
        self.increases = self.history.increases(self.measured)
        kept = {increase.key for increase in self.increases}
        self._write(self.settings.json, dump(self.measured))
        text = summary.markdown(self.measured, self.history, self.increases, github.link(self.config.rootpath))
        self._write(self.settings.markdown, text)
        if self.measured and (problem := github.append_to_step_summary(text)):
            self.problems.append(problem)
        self.history.keep(m for m in self.measured if m.test in self.passed and m.key not in kept)
        if (self.increases or self.problems) and session.exitstatus in (pytest.ExitCode.OK, 0):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def conclusions(self) -> list[str]:
        """Return a line for each option that fails the run, though each test may have passed."""
        options = Counter(increase.option for increase in self.increases)
        return [f"{option}: failed, {plural(n, 'count')} grew by more than that" for option, n in options.items()]

    def _write(self, path: Path | None, text: str) -> None:
        if path is None:
            return
        try:
            baseline.write(path, text)
        except BaselineError as error:
            self.problems.append(str(error))


RUN = pytest.StashKey[Run]()


def watcher_of(item: pytest.Item, run: Run) -> Watcher:
    """Return who is told of the counts of a test."""

    def before(name: str) -> Any:
        return run.before(item, name)

    verbosity = run.config.get_verbosity()
    return Watcher(item.name, getattr(item, "originalname", item.name) or item.name, before, verbosity)
