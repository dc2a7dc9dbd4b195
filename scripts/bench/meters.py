"""Loops with a meter: what a thousand steps take more than without one, and what a step does.

A ratio of 1 says that a loop takes as long as without a meter; the limit is 2 percent more.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import measure
from every import bare, step

from opcount import Device, Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

DEVICE = Device(name="any", peaks={"float32": 1e12}, bandwidth=1e11)
LIMIT = 1.02
STEPS = 1000
_PAIRS = 3
CASES = {"8 layers": (384, 8, 32)}
"""Width, depth and batch."""


def metered(steps: int, program: Callable[[], None], meter: Meter, interval: int) -> None:
    """Run a loop of which every step is one of the meter, which is read now and then."""
    for number in range(1, steps + 1):
        with meter.step(tokens=32):
            program()
        if number % interval == 0:
            meter.read()


def idle(steps: int, meter: Meter) -> None:
    """Run empty steps, none of which is counted."""
    for _ in range(steps):
        with meter.step(tokens=32):
            pass


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time loops of a thousand steps against bare ones, and a step that does nothing."""
    for name, sizes in CASES.items():
        if not names or name in names:
            yield from _compare(name, *step(*sizes))
    if not names or "a step" in names:
        meter = Meter(device=DEVICE, every=10**15)
        idle(1, meter)
        yield measure.Result("meters", "a step that does nothing", "Meter", "nothing", _seconds(meter), 0.0)


def _seconds(meter: Meter) -> float:
    return min(measure.processor_seconds(nullcontext(), partial(idle, 10_000, meter)) for _ in range(7)) / 10_000


def _compare(name: str, model: nn.Module, program: Callable[[], None]) -> Iterator[measure.Result]:
    """Compare processor times of interleaved pairs: what else the machine does is more than 2 percent."""

    def subject() -> None:
        metered(STEPS, program, Meter(model, device=DEVICE, every=100), 100)

    reference = partial(bare, STEPS, program)
    times = [[measure.processor_seconds(nullcontext(), run) for run in (subject, reference)] for _ in range(_PAIRS + 1)]
    ratio = median(theirs / ours for ours, theirs in times[1:])
    result = measure.Result(
        "meters", f"{name}, {STEPS} steps", "Meter(every=100)", "bare", median(t for t, _ in times[1:]), ratio
    )
    yield result
    yield result._replace(reference=f"limit: {LIMIT} x bare", ratio=ratio * LIMIT)
