"""Counters for those who judge afterwards what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from opcount.counter import OpCounter


def quiet_counter(model: nn.Module | None) -> OpCounter:
    """Return a counter without a warning about uncounted operators, which a budget replaces."""
    from opcount.counter import OpCounter  # noqa: PLC0415  (torch is imported when something is counted)

    counter = OpCounter(model)
    counter._warns = False  # noqa: SLF001  (no choice that users have)
    return counter


def stop(counter: OpCounter) -> None:
    """Leave a counter's block, if it is still counting, without judging what it counted."""
    counter._abandon()  # noqa: SLF001  (the package's own way out)


def is_counting(counter: OpCounter) -> bool:
    """Tell whether a counter's block is running."""
    return bool(counter._undo)  # noqa: SLF001
