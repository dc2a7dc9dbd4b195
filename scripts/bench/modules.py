"""Time that counting adds to calls of modules, beyond what they take without it."""

from __future__ import annotations

import measure
import torch
from overhead import CALLS, times
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter

MODULES = 100
"""With the one that calls the others."""


class Hooks:
    """Global hooks that do nothing: the least that it takes to notice a module call."""

    def __enter__(self) -> None:
        self._handles = (
            register_module_forward_pre_hook(_nothing),
            register_module_forward_hook(_nothing, always_call=True),
        )

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _nothing(*_: object) -> None:
    """Do nothing."""


def run(cases: list[str] | None) -> list[measure.Result]:
    """Compare module calls under a counter with such under hooks that do nothing, and under FlopCounterMode."""
    if cases and "module call" not in cases:
        return []
    model, x = nn.Sequential(*(nn.Identity() for _ in range(MODULES - 1))), torch.ones(1)

    references = {"hooks that do nothing": Hooks(), "FlopCounterMode": FlopCounterMode(display=False)}
    with torch.no_grad():
        return measure.compare_added(
            "modules",
            f"module call x {CALLS}",
            times(lambda: model(x), CALLS // MODULES),
            ("OpCounter", OpCounter(model)),
            references,
        )
