"""Ratios of times on a machine that others use too: interleaved pairs, and the median of their ratios."""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from prettytable import PrettyTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager


class Result(NamedTuple):
    """Comparison of one program with another.

    Attributes:
        suite: The benchmark's name.
        case: What was run.
        subject: What is measured.
        reference: What it is compared with.
        value: Median of the subject, in seconds; of memory, in bytes.
        ratio: Median of ``reference / subject``, pair by pair: above 1 the subject is faster, or smaller.
        unit: Of the value.
    """

    suite: str
    case: str
    subject: str
    reference: str
    value: float
    ratio: float
    unit: str = "s"


def seconds(program: Callable[[], object]) -> float:
    """Run a program once, with garbage collection out of the way, and return how long it took."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        program()
        return time.perf_counter() - start
    finally:
        gc.enable()


def processor_seconds(mode: AbstractContextManager[object], program: Callable[[], object]) -> float:
    """Run a program once under a mode, without garbage collection, and return for how long this thread was running.

    To enter and to leave the mode is not timed.
    """
    with mode:
        gc.disable()
        try:
            start = time.thread_time()
            program()
            return time.thread_time() - start
        finally:
            gc.enable()


def compare(
    suite: str,
    case: str,
    subject: tuple[str, Callable[[], object]],
    references: dict[str, Callable[[], object]],
    pairs: int = 7,
) -> list[Result]:
    """Run a subject and its references in turn, ``pairs`` times after one that does not count."""
    return compare_each(suite, case, dict([subject]), references, pairs)


def compare_each(
    suite: str,
    case: str,
    subjects: dict[str, Callable[[], object]],
    references: dict[str, Callable[[], object]],
    pairs: int = 7,
) -> list[Result]:
    """Do so with several subjects, each of which is compared with every reference."""
    programs = {**subjects, **references}
    times = _in_turn({name: partial(seconds, program) for name, program in programs.items()}, pairs)
    return [
        Result(
            suite,
            case,
            subject,
            name,
            median(times[subject]),
            median(theirs / ours for theirs, ours in zip(times[name], times[subject], strict=True)),
        )
        for subject in subjects
        for name in references
    ]


def compare_added(
    suite: str,
    case: str,
    program: Callable[[], object],
    subject: tuple[str, AbstractContextManager[object]],
    references: dict[str, AbstractContextManager[object]],
    pairs: int = 31,
) -> list[Result]:
    """Compare what a mode and its references add to a program: differences, and the ratios of differences.

    Differences of microseconds drown in what else the machine does: they are of this thread's processor time.
    """
    gc.collect()
    modes = {"": nullcontext(), subject[0]: subject[1], **references}
    times = _in_turn({name: partial(processor_seconds, mode, program) for name, mode in modes.items()}, pairs)
    added = {
        name: [time - floor for time, floor in zip(of_one, times[""], strict=True)] for name, of_one in times.items()
    }
    own = added[subject[0]]
    return [
        Result(
            suite,
            case,
            subject[0],
            f"{name}, both beyond bare",
            median(own),
            median(theirs / ours for theirs, ours in zip(added[name], own, strict=True)),
        )
        for name in references
    ]


def _in_turn(timed: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each program, run in turn, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(rounds + 1):
        for name, run in timed.items():
            elapsed = run()
            if turn:
                times[name].append(elapsed)
    return times


def table(results: Iterable[Result]) -> str:
    """Return results as text."""
    shown = PrettyTable(["suite", "case", "subject", "median", "compared with", "ratio"])
    shown.align = "l"
    shown.align["median"] = shown.align["ratio"] = "r"
    for r in results:
        shown.add_row([r.suite, r.case, r.subject, _text(r), r.reference, f"{r.ratio:.2f} x"])
    return str(shown)


def line(result: Result) -> str:
    """Return one result as a line."""
    return f"{result.suite}: {result.case}: {result.subject} {_text(result)}, {result.ratio:.2f} x {result.reference}"


def _text(result: Result) -> str:
    if result.unit == "B":
        return f"{result.value / 1e6:.1f} MB"
    return f"{1e3 * result.value:.2f} ms" if result.value >= 1e-4 else f"{1e6 * result.value:.2f} us"
