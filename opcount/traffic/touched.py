"""Bytes that are touched where a tensor is read or written whole: its elements, those of an expanded one once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import dispatch_disabled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

_INDEX = 8
"""Bytes of an index of a sparse COO tensor."""

_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


def touched(x: Tensor) -> int:
    """Return the bytes of a tensor's elements; a dimension of stride 0 has one element.

    Of a sparse tensor these are its values and its indices, of a nested one its components.

    Example:
        >>> touched(torch.ones(3, 1).expand(3, 5)), touched(torch.ones(4).to_sparse())
        (12, 48)
    """
    try:
        if x.is_contiguous():
            return x.nbytes
        if x.layout is torch.strided:
            return _strided(x)
    except RuntimeError:  # of a layout without strides, or of sizes that are expressions
        pass
    with dispatch_disabled():  # other counters are not to see what this asks
        return _by_layout(x)


def _strided(x: Tensor) -> int:
    strides = x.stride()
    if 0 not in strides or not x.numel():
        return x.nbytes
    return x.element_size() * math.prod(n for n, stride in zip(x.shape, strides, strict=True) if stride)


def _by_layout(x: Tensor) -> int:
    if x.layout is torch.sparse_coo:
        element = x.element_size() * math.prod(x.shape[x.sparse_dim() :])
        return x._nnz() * (_INDEX * x.sparse_dim() + element)
    parts = _COMPRESSED.get(x.layout)
    if parts is not None:
        return sum(getattr(x, part)().nbytes for part in parts)
    return x.numel() * x.element_size()


def touched_by(values: Iterable[Any]) -> int:
    """Return the bytes of the distinct tensors among values, those in lists included."""
    seen: dict[int, Tensor] = {}
    _collect(values, seen)
    return sum(map(touched, seen.values()))


def _collect(values: Iterable[Any], seen: dict[int, Tensor]) -> None:
    for value in values:
        if isinstance(value, torch.Tensor):
            seen[id(value)] = value
        elif isinstance(value, (list, tuple)):
            _collect(value, seen)
