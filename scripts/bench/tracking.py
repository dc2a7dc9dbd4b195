"""Time that tracking live bytes adds to small operators, beyond what they take without a mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import measure
import torch
from overhead import CALLS, Unwatched, programs, times

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Iterator


def run(cases: list[str] | None) -> Iterator[measure.Result]:
    """Compare a counter that tracks memory with one that does not, and with a mode that does nothing."""
    for name, program in programs().items():
        if cases and name not in cases:
            continue
        references = {"an empty mode that dynamo may see": Unwatched(), "OpCounter": OpCounter()}
        subject = "OpCounter(memory=True)", OpCounter(memory=True)
        with torch.no_grad():
            yield from measure.compare_added("tracking", f"{name} x {CALLS}", times(program), subject, references)
