"""The pytest plugin: FLOP budgets of tests.

Nothing here imports torch before a test counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from opcount.budget import flop_budget
from opcount.budget.watch import watching
from opcount.errors import BudgetError, BudgetExceededError, ConventionError, MissingBaselineError
from opcount.pytest_plugin import call_phase, github, summary
from opcount.pytest_plugin.marker import MARKER
from opcount.pytest_plugin.options import add_options, read_settings
from opcount.pytest_plugin.regression import FlopRegression
from opcount.pytest_plugin.run import RUN, Run, watcher_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from opcount.counter import OpCounter


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Begin a run."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*limits, model=None, scope='function', phase=None, allow_uncounted=False, ...): "
        "fail the test if it computes more, such as '4.2 GMAC' (opcount).",
    )
    run = config.stash[RUN] = Run(config, read_settings(config))
    run.history.file  # noqa: B018  (a file that cannot be read is said at once)
    if run.reports:
        config.pluginmanager.register(_Reporter(run), "opcount-reporter")
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Workers(config), "opcount-workers")


class _Reporter:
    """Collects the reports of all tests, whichever process ran them, and shows what they counted."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._run.collect(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._run.finish(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        run = self._run
        if run.settings.summary:
            terminalreporter.section(summary.title(run.measured))
            for line in summary.terminal(run.measured, run.settings.top):
                terminalreporter.line(line)
        if run.increases or run.problems:
            terminalreporter.section("FLOPs", red=True)
            for line in (*(increase.text for increase in run.increases), *run.conclusions(), *run.problems):
                terminalreporter.line(line, red=True)
        for line in github.error_commands(run.measured, run.increases, run.config.rootpath):
            terminalreporter.write_line(line)


class _Workers:
    """Sends xdist's workers the mode in which tests are distributed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        several = len(self._config.getoption("tx", None) or []) > 1
        node.workerinput["opcount_dist"] = self._config.getoption("dist", "no") if several else "no"


@pytest.fixture(name="flop_budget")
def budget_fixture() -> type[flop_budget]:
    """Return what holds a block to a budget, and gives its counter; see `opcount.flop_budget`."""
    return flop_budget


@pytest.fixture
def op_counter(request: pytest.FixtureRequest) -> OpCounter:
    """Return the counter of the test's call phase."""
    return call_phase.counter_of(request.node, request.getfixturevalue)


@pytest.fixture
def flop_regression(request: pytest.FixtureRequest) -> FlopRegression:
    """Hold counts to a file beside the test: ``flop_regression.check(c, depth=2)``."""
    run = request.config.stash[RUN]
    return FlopRegression(request.node, update=run.settings.update, verbosity=request.config.get_verbosity())


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Read the markers of a test, after its fixtures are made."""
    problem = ""
    try:
        call_phase.prepare(item)
    except (ConventionError, BudgetError, TypeError) as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Watch a test; a method of unittest is counted here."""
    __tracebackhide__ = True
    run = item.config.stash[RUN]
    watcher = item.stash[call_phase.WATCHER] = watcher_of(item, run)
    with watching(watcher):
        if _is_unittest(item):
            with call_phase.unittest_counted(item, run):  # type: ignore[arg-type]
                return (yield)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Count a test function."""
    __tracebackhide__ = True
    with call_phase.counted(pyfuncitem, pyfuncitem.config.stash[RUN]):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what a test counted into its report, and the evidence of a failure below it."""
    error = call.excinfo.value if call.excinfo is not None else None
    counts = _note(item, error) if call.when == "call" else []
    report = yield
    if counts and not report.skipped:
        vars(report)["opcount"] = counts  # reports carry what they hold to xdist's controller
    if isinstance(error, (BudgetExceededError, MissingBaselineError)) and report.failed:
        if isinstance(error, BudgetExceededError) and error.evidence:
            report.sections.append(("FLOP budget", error.evidence))
        if call.excinfo is not None and not _shows_test(call.excinfo, item):
            report.longrepr = call.excinfo.getrepr(style="value")
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:  # pytest's short summary has one line, which begins with the name of the test
            kind = "" if isinstance(error, BudgetExceededError) else f"{type(error).__name__}: "
            crash.message = kind + str(error).removeprefix(f"{item.name}: ")
    return report


def _note(item: pytest.Item, error: BaseException | None) -> list[dict[str, Any]]:
    watcher = item.stash.get(call_phase.WATCHER, None)
    return call_phase.note(item, watcher, error) if watcher is not None and watcher.measurements else []


def _is_unittest(item: pytest.Item) -> bool:
    return any(kind.__name__ == "TestCaseFunction" for kind in type(item).__mro__)


def _shows_test(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> bool:
    """Return whether a traceback has a frame of the test: that of a marker or a decorator has none."""
    return any(entry.path == item.path and not entry.ishidden(excinfo) for entry in excinfo.traceback)
