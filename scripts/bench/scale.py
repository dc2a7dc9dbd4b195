"""How time grows: with modules, with operators, with training steps. A doubling should take twice as long."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import measure
import torch
from torch import Tensor, nn

from opcount import OpCounter, get_model_complexity_info

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


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time each size of each curve against the next smaller one, the ratio divided by that of the sizes."""
    for name, (make, sizes) in CURVES.items():
        if names and name not in names:
            continue
        for small, large in itertools.pairwise(sizes):
            subject = (f"{large:,}", make(large))
            (result,) = measure.compare("scale", name, subject, {f"{small:,}": make(small)}, pairs=3)
            yield result._replace(ratio=result.ratio * large / small)
