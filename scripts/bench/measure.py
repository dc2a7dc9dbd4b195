"""Ratios of times on a machine that others use too: interleaved pairs, and the median of their ratios."""

from __future__ import annotations

import gc
import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from prettytable import PrettyTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Result(NamedTuple):
    """How one program compares with another.

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


def compare(
    suite: str,
    case: str,
    subject: tuple[str, Callable[[], object]],
    references: dict[str, Callable[[], object]],
    pairs: int = 7,
) -> list[Result]:
    """Run a subject and its references in turn, ``pairs`` times after one that does not count."""
    times = _in_turn({subject[0]: subject[1], **references}, pairs)
    own = times[subject[0]]
    return [
        Result(
            suite,
            case,
            subject[0],
            name,
            median(own),
            median(theirs / ours for theirs, ours in zip(times[name], own, strict=True)),
        )
        for name in references
    ]


def compare_added(
    suite: str,
    case: str,
    subject: tuple[str, Callable[[], object]],
    bare: Callable[[], object],
    references: dict[str, Callable[[], object]],
    pairs: int = 31,
) -> list[Result]:
    """Compare what a subject and its references add to a bare program: differences, and the ratios of differences."""
    times = _in_turn({"": bare, subject[0]: subject[1], **references}, pairs)
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


def _in_turn(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each program, run in turn, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            elapsed = seconds(program)
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


def _text(result: Result) -> str:
    return f"{result.value / 1e6:.1f} MB" if result.unit == "B" else f"{1e3 * result.value:.2f} ms"
