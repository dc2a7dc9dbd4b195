"""The call phase of one test: its watcher and its counter."""

from __future__ import annotations

import inspect
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from opcount.budget.budget import enforce
from opcount.budget.watch import Watcher, current, quiet_counter
from opcount.errors import BudgetExceededError, MissingBaselineError, OpcountError
from opcount.pytest_plugin.marker import Marker, read_markers
from opcount.pytest_plugin.stored_counts import Shortfall, freeze, to_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.counter import OpCounter
    from opcount.pytest_plugin.run import Run

WATCHER = pytest.StashKey[Watcher]()
COUNTER = pytest.StashKey["OpCounter"]()
"""Counts the call phase; only a test that asks for it has one."""

_JUDGED = (BudgetExceededError, MissingBaselineError)
"""Failures by a count that is complete."""

_PREFIX = "opcount."
"""Begins the names of junit properties."""


def prepare(item: pytest.Item) -> None:
    """Make the counter of a test that has markers.

    Raises:
        BudgetError: A marker is wrong.
    """
    if read_markers(item):
        counter_of(item, getattr(item, "funcargs", {}).__getitem__)


def counter_of(item: pytest.Item, get: Callable[[str], Any]) -> OpCounter:
    """Return the counter of a test's call phase: one for the markers and the fixture; ``get`` returns a fixture."""
    if COUNTER not in item.stash:
        from opcount.counter import OpCounter  # noqa: PLC0415  (torch is imported when something is counted)

        models = [marker.find_model(item, get) for marker in read_markers(item)]
        model = next((model for model in models if model is not None), None)
        memory = any(marker.budget.bounds_memory for marker in read_markers(item))
        item.stash[COUNTER] = quiet_counter(model, memory=memory) if models else OpCounter()
    return item.stash[COUNTER]


@contextmanager
def counted(item: pytest.Item, run: Run) -> Iterator[None]:
    """Count the block if the test asks for it, and hold it to the budgets of its markers."""
    __tracebackhide__ = True
    counter = item.stash.get(COUNTER, None)
    if counter is None:
        yield
        return
    counter.reset()
    markers = read_markers(item)
    try:
        with timed_apart(item, counter), counter:
            yield
    except BaseException:
        with suppress(OpcountError):  # of a counter that the test itself has entered or left
            _note_count(counter, markers)
        raise
    _note_count(counter, markers)
    watcher, whole = current(), counter.profile
    for marker in markers:
        who, profile = run.shared.add(item, marker, whole)
        enforce(marker.budget, profile, watcher, who=who, name=marker.name)


def _note_count(counter: OpCounter, markers: list[Marker]) -> None:
    """Add the count to those of the test, unless it is one that ``flop_regression`` was given."""
    watcher, profile = current(), counter.profile
    if markers or all(one.profile != profile for one in watcher.measurements):
        watcher.note("", profile, tuple(str(marker.budget) for marker in markers))


@contextmanager
def timed_apart(item: pytest.Item, counter: OpCounter) -> Iterator[None]:
    """Keep the counter out of what pytest-benchmark times; the call that it makes for the result is counted."""
    benchmark: Any = getattr(item, "funcargs", {}).get("benchmark")
    make = getattr(benchmark, "_make_runner", None)
    if make is None:
        yield
        return

    @wraps(make)
    def make_uncounted(*args: Any) -> Any:
        runner = make(*args)

        def run_uncounted(*rounds: Any) -> Any:
            counter._abandon()  # noqa: SLF001  (the package's own way out)
            try:
                return runner(*rounds)
            finally:
                counter.__enter__()

        return run_uncounted

    benchmark._make_runner = make_uncounted  # noqa: SLF001  (the one place that knows what is timed)
    try:
        yield
    finally:
        del benchmark._make_runner  # noqa: SLF001


@contextmanager
def unittest_counted(item: pytest.Function, run: Run) -> Iterator[None]:
    """Count the method alone: unittest runs its ``setUp`` and ``tearDown`` in the call phase, too."""
    method = item.obj
    if COUNTER not in item.stash:
        yield
        return
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def wrapped_async(*args: Any) -> Any:
            __tracebackhide__ = True
            with counted(item, run):
                return await method(*args)

        setattr(item.instance, item.name, wrapped_async)  # unittest finds it there
        try:
            yield
        finally:
            delattr(item.instance, item.name)
        return

    @wraps(method)
    def wrapped(*args: Any) -> Any:
        __tracebackhide__ = True
        with counted(item, run):
            return method(*args)

    item.obj = wrapped
    try:
        yield
    finally:
        item.obj = method


def note(item: pytest.Item, watcher: Watcher, failed: BaseException | None = None) -> list[dict[str, Any]]:
    """Add the counts of a test to the properties of junit and pytest-benchmark; return them as plain data."""
    found = freeze(item.nodeid, watcher.measurements)
    file, line = item.location[0].replace("\\", "/"), _line_of(item, failed)
    found = [measured._replace(file=file, line=line) for measured in found]
    if failed is not None and COUNTER in item.stash and not isinstance(failed, (*_JUDGED, pytest.skip.Exception)):
        why = f"{type(failed).__name__}: {str(failed).strip()}".partition("\n")[0]
        found[-1] = found[-1]._replace(partial=True, failures=(Shortfall("failed", why),))
    properties: dict[str, int] = {}
    for measured in found:
        prefix = f"{measured.name}." if measured.name else ""
        properties.update({f"{prefix}{metric}": count for metric, count in measured.counts.items()})
    kept = [pair for pair in item.user_properties if not pair[0].startswith(_PREFIX)]  # of a run before this rerun
    item.user_properties[:] = [*kept, *((f"{_PREFIX}{name}", count) for name, count in properties.items())]
    _note_benchmark(item, properties)
    return [to_data(measured) for measured in found]


def _line_of(item: pytest.Item, failed: BaseException | None) -> int:
    """Return the line at which a test failed; else, and where its file is not in the traceback, the one of its name."""
    line = (item.location[1] or 0) + 1
    trace = failed.__traceback__ if failed is not None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(item.path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _note_benchmark(item: pytest.Item, properties: dict[str, int]) -> None:
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    extra = getattr(benchmark, "extra_info", None)
    if not isinstance(extra, dict) or not properties:
        return
    extra.update(properties)
    seconds = getattr(getattr(getattr(benchmark, "stats", None), "stats", None), "mean", None)
    if seconds and "flops" in properties:
        extra["flops_per_second"] = properties["flops"] / seconds
