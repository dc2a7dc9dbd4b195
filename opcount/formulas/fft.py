"""Fourier transforms: ``5 n log2 n`` operations for ``n`` complex points, half for real ones.

The count of the radix-2 algorithm, which benchmarks of transforms use for every length
(Frigo and Johnson, FFTW, www.fftw.org/speed). It is additive over dimensions: a transform of ``N`` points over
several dimensions costs ``5 N log2 N``, too. The symmetric half of a real transform is never computed.
"""

from __future__ import annotations

from math import log2, prod
from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.registry import OperatorNames, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

prims = OperatorNames("prims")


@formula(aten._fft_c2c, prims.fft_c2c)
def c2c(out: Tensor, self: Tensor, dim: Sequence[int]) -> Cost:
    """``5 N log2 n``: N complex points, transformed along ``n``, the product of the lengths of ``dim``."""
    return Cost(0, _complex(out.numel(), self, dim), 0)


@formula(aten._fft_r2c, prims.fft_r2c)
def r2c(self: Tensor, dim: Sequence[int]) -> Cost:
    """``2.5 N log2 n`` along the last of ``dim``; the others transform the ``n / 2 + 1`` points that are left."""
    return Cost(0, _real(self, dim), 0)


@formula(aten._fft_c2r, prims.fft_c2r)
def c2r(out: Tensor, dim: Sequence[int]) -> Cost:
    """The reverse of a real transform: as many operations."""
    return Cost(0, _real(out, dim), 0)


def _real(real: Tensor, dim: Sequence[int]) -> int:
    points = real.numel()
    if not points or not dim:
        return 0
    last = real.shape[dim[-1]]
    half = points // last * (last // 2 + 1)
    return round(2.5 * points * log2(last)) + _complex(half, real, dim[:-1])


def _complex(points: int, x: Tensor, dim: Sequence[int]) -> int:
    return round(5 * points * log2(prod(x.shape[d] for d in dim))) if points else 0
