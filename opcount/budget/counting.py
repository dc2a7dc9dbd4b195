"""A counter's block for those who judge afterwards what it saw."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from opcount.errors import UncountedOperatorWarning

if TYPE_CHECKING:
    from types import TracebackType

    from torch import nn

    from opcount.counter import OpCounter


def begin(model: nn.Module | None) -> OpCounter:
    """Return a counter that counts."""
    from opcount.counter import OpCounter  # noqa: PLC0415  (torch is imported when something is counted)

    return OpCounter(model).__enter__()


def leave(
    counter: OpCounter,
    kind: type[BaseException] | None = None,
    error: BaseException | None = None,
    trace: TracebackType | None = None,
) -> None:
    """Leave a counter's block without its warning about uncounted operators, which a budget replaces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncountedOperatorWarning)
        counter.__exit__(kind, error, trace)
