"""Results of operators whose shape functions refuse what their kernels take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_ALIGNMENT = 16
"""Bytes to which rows of a grouped product are padded."""


def grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    _bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return an empty result: of rows where one side is split into groups, of one matrix a group where both are."""
    size = [a.shape[-2], b.shape[-1]]
    groups = offs.shape[0] if offs is not None else a.shape[0]
    if a.dim() == b.dim():
        size = [groups, *size]
    dtype = out_dtype or a.dtype
    unit = _ALIGNMENT // dtype.itemsize
    row = -(-size[-1] // unit) * unit
    stride = [size[-2] * row, row, 1][-len(size) :]
    return torch.empty_strided(size, stride, dtype=dtype, device=a.device)


def lenient(func: Any) -> Callable[..., Any]:
    """Return a shape function that takes what the kernel takes: the operator itself, for all but a few."""
    return grouped_mm if str(func) == "aten._grouped_mm.default" else func
