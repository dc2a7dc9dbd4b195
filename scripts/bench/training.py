"""Training steps - forward, backward, optimizer - under a counter and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import measure
import torch
from models import MODELS, positional
from overhead import Empty
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor, nn


def step(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return one training step; the optimizer has its state already."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)

    def program() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    program()
    return program


def under(mode: Callable[[], AbstractContextManager[Any]], program: Callable[[], None]) -> Callable[[], None]:
    """Return the program under a mode of its own."""

    def run() -> None:
        with mode():
            program()

    return run


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time a step under opcount, with all that it records, against a bare one and other modes."""
    for name in names or MODELS:
        model, x = positional(name)
        program = step(model, x)
        references = {
            "bare step": program,
            "an empty mode": under(Empty, program),
            "FlopCounterMode": under(lambda: FlopCounterMode(display=False), program),
        }
        subject = ("OpCounter", under(lambda model=model: OpCounter(model), program))  # type: ignore[misc]
        yield from measure.compare("training", name, subject, references, pairs=5)
