"""Optimizers made before a dry run hold the real parameters; they step on the fake ones instead."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

    from opcount.dryrun.twins import Twins


@contextmanager
def paired_optimizers(twins: Twins) -> Iterator[None]:
    """Let optimizers step on the twins of their parameters; their groups and state are as before afterwards."""
    before: dict[int, tuple[Optimizer, Any, list[list[Any]]]] = {}

    def enter(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        if id(optimizer) in before:
            return
        groups = [list(group["params"]) for group in optimizer.param_groups]
        before[id(optimizer)] = (optimizer, optimizer.state, groups)
        optimizer.state = type(optimizer.state)(optimizer.state.default_factory)
        for group in optimizer.param_groups:
            fakes = [twins.of(p) for p in group["params"]]
            for parameter, fake in zip(group["params"], fakes, strict=True):
                if parameter in before[id(optimizer)][1]:
                    old = before[id(optimizer)][1][parameter]
                    optimizer.state[fake] = {k: twins.of(v) if hasattr(v, "is_meta") else v for k, v in old.items()}
            group["params"][:] = fakes

    handle = register_optimizer_step_pre_hook(enter)
    try:
        yield
    finally:
        handle.remove()
        for optimizer, state, groups in before.values():
            optimizer.state = state
            for group, params in zip(optimizer.param_groups, groups, strict=True):
                group["params"][:] = params
