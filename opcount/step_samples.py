"""FLOPs of many steps, estimated from some that were counted."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from opcount.utilization import Flops

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEPT = 16
"""Samples that are kept beyond a reading, for one in whose steps none was counted."""


class Sample(NamedTuple):
    """One counted step: its FLOPs by dtype, and its tokens where they are known."""

    flops: Mapping[str, Flops]
    tokens: float | None


class StepSamples:
    """The counted steps of a loop: all since the last reading, and the latest ones before.

    As in `OpCounter(every=)`, the first step stands for itself alone as soon as two others were counted.
    """

    def __init__(self) -> None:
        self._first: Sample | None = None
        self._later: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Add a counted step."""
        if self._first is None:
            self._first = sample
        else:
            self._later.append(sample)

    def forget_early(self) -> None:
        """Forget those that are too old for the next reading."""
        del self._later[:-_KEPT]

    def estimate(self, steps: int, tokens: float | None) -> dict[str, Flops]:
        """Return the FLOPs by dtype of so many other steps, with so many tokens in all where that is known."""
        samples = self._later if len(self._later) >= 2 or self._first is None else [self._first, *self._later]
        dtypes = dict.fromkeys(dtype for sample in samples for dtype in sample.flops)
        sizes = [sample.tokens for sample in samples]
        columns = {
            dtype: zip(*(sample.flops.get(dtype, Flops()) for sample in samples), strict=True) for dtype in dtypes
        }
        return {
            dtype: Flops(*(_estimate(list(counts), sizes, steps, tokens) for counts in column))
            for dtype, column in columns.items()
        }


def _estimate(counts: list[float], sizes: list[float | None], steps: int, tokens: float | None) -> float:
    """Estimate a sum over steps: by regression on their sizes where these are known, else by the mean.

    Steps that cost the same cost the same whatever their sizes. Where all counted ones have one size, cost is taken to
    be in proportion to it.
    """
    mean = fmean(counts)
    known = [size for size in sizes if size is not None]
    if tokens is None or len(known) < len(sizes) or not all(known) or (len(counts) > 1 and len(set(counts)) == 1):
        return mean * steps
    middle = fmean(known)
    spread = sum((size - middle) ** 2 for size in known)
    if not spread:
        return mean * tokens / middle
    slope = sum((size - middle) * (count - mean) for size, count in zip(known, counts, strict=True)) / spread
    estimate = mean * steps + slope * (tokens - middle * steps)
    return estimate if slope > 0 and estimate > 0 else mean * steps
