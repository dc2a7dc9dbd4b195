"""Loops of which one step of so many is counted: what a step costs that is not, and what the whole loop does.

A ratio of 1 says that a loop takes as long as without a counter.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import measure
import torch
from torch import nn

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

EVERY = 100


def step(width: int, depth: int, batch: int) -> tuple[nn.Module, Callable[[], None]]:
    """Return a model and its training step; the optimizer has its state already."""
    model = nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())))
    optimizer, x = torch.optim.AdamW(model.parameters()), torch.randn(batch, width)

    def program() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    program()
    return model, program


def bare(steps: int, program: Callable[[], None]) -> None:
    """Run a loop without a counter."""
    for _ in range(steps):
        program()


def counted(steps: int, program: Callable[[], None], counter: Callable[[], AbstractContextManager[object]]) -> None:
    """Run a loop of which every step is a block of the counter."""
    c = counter()
    for _ in range(steps):
        with c:
            program()


def resting(model: nn.Module, program: Callable[[], None]) -> OpCounter:
    """Return a counter that has counted its first step, and will count no other in a lifetime."""
    c = OpCounter(model, every=10**15)
    with c:
        program()
    return c


CASES = {"2 small layers": (16, 2, 8), "12 layers": (256, 12, 32)}
"""Width, depth and batch."""

LONG = "100,000 steps"


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time loops against bare ones, and against a loop of which every step is counted."""
    for name, sizes in CASES.items():
        if not names or name in names:
            yield from _compare(name, *step(*sizes))
    if not names or LONG in names:
        model, program = step(16, 1, 8)
        subject = partial(counted, 100_000, program, partial(OpCounter, model, every=EVERY))
        references = {"bare": partial(bare, 100_000, program)}
        yield from measure.compare("every", f"{LONG} of a layer", (f"every={EVERY}", subject), references, pairs=1)


def _compare(name: str, model: nn.Module, program: Callable[[], None]) -> list[measure.Result]:
    few, many = 30, 300
    c = resting(model, program)
    subject = partial(counted, few, program, lambda: c)
    references = {"bare": partial(bare, few, program)}
    results = measure.compare("every", f"{name}, {few} steps", ("no step counted", subject), references, pairs=61)
    subject = partial(counted, many, program, partial(OpCounter, model, every=EVERY))
    references = {
        "bare": partial(bare, many, program),
        "all steps counted": partial(counted, many, program, partial(OpCounter, model)),
    }
    return results + measure.compare("every", f"{name}, {many} steps", (f"every={EVERY}", subject), references)
