"""Growth of time with modules, operators and training steps: a doubling should take twice as long; and two limits."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import measure
import torch
from torch import Tensor, nn

from opcount import OpCounter, get_model_complexity_info
from opcount.reporter.table import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Wide(nn.Module):
    """Groups of ten modules with a parameter each, called in turn."""

    def __init__(self, modules: int) -> None:
        super().__init__()
        self.groups = nn.ModuleList(nn.Sequential(*(_Scale() for _ in range(9))) for _ in range(modules // 10))

    def forward(self, x: Tensor) -> Tensor:
        """Call all of them."""
        for group in self.groups:
            x = group(x)
        return x


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def complexity(modules: int) -> Callable[[], object]:
    """Return the whole of mmengine's answer: numbers, table and arch."""
    model = Wide(modules)
    return lambda: get_model_complexity_info(model, (1,))


def counted_modules(modules: int) -> Callable[[], object]:
    """Return one forward under the counter, and its profile."""
    model, x = Wide(modules), torch.ones(1)

    def program() -> object:
        with OpCounter(model) as c:
            model(x)
        return c.profile

    return program


def operators(calls: int) -> Callable[[], object]:
    """Return a loop over one operator."""
    x = torch.ones(1)

    def program() -> object:
        with OpCounter() as c:
            for _ in range(calls):
                x.add_(1)
        return c.profile

    return program


def training(steps: int) -> Callable[[], object]:
    """Return training steps under one counter."""
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)), torch.ones(2, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def program() -> object:
        with OpCounter(model) as c:
            for _ in range(steps):
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
        return c.profile

    return program


CURVES = {
    "table and arch, modules": (complexity, (10_000, 20_000)),
    "modules": (counted_modules, (1_000, 10_000, 100_000)),
    "operators": (operators, (1_000, 10_000, 100_000, 1_000_000)),
    "training steps": (training, (10, 100, 1_000, 10_000)),
}


LIMITS = {"first call of a module": 20e-6, "row of a table": 15e-6}
"""The most seconds that each may take, on a processor of 2023 or so that does nothing else."""

SIZES = (1_000, 10_000, 100_000)


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time each size of each curve against the next smaller one, the ratio divided by that of the sizes."""
    if not names or not LIMITS.keys().isdisjoint(names):
        yield from _against_limits()
    for name, (make, sizes) in CURVES.items():
        if names and name not in names:
            continue
        for small, large in itertools.pairwise(sizes):
            subject = (f"{large:,}", make(large))
            (result,) = measure.compare("scale", name, subject, {f"{small:,}": make(small)}, pairs=3)
            yield result._replace(ratio=result.ratio * large / small)


def _against_limits() -> Iterator[measure.Result]:
    """Time what a module adds to its first forward under a counter, and each row of the full table."""
    for size in SIZES:
        model, x = Wide(size), torch.ones(1)
        times = [_first_calls_and_rows(model, x) for _ in range(4)][1:]
        for (case, limit), columns in zip(LIMITS.items(), zip(*times, strict=True), strict=True):
            each = median(columns) / size
            reference = f"limit of {1e6 * limit:.0f} us"
            yield measure.Result("scale", case, f"{size:,} modules", reference, each, limit / each)


def _first_calls_and_rows(model: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return the processor time that a new counter adds to a forward, and that of the whole table."""
    bare = _processor_seconds(partial(model, x))
    with OpCounter(model) as c:
        counted = _processor_seconds(partial(model, x))
    profile = c.profile
    return counted - bare, _processor_seconds(partial(render, profile, depth=None, fold=False))


def _processor_seconds(program: Callable[[], object]) -> float:
    return measure.processor_seconds(nullcontext(), program)
