"""Bytes that are touched where a tensor is read or written whole: its elements, those of an expanded one once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.dispatch import dispatch_disabled
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STRIDED = torch.strided
NO_TENSORS = frozenset({type(None), bool, int, float, complex})
_TENSORS = frozenset({Tensor, torch.nn.Parameter})
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
        strides = x.stride()
        if 0 not in strides:
            return x.nbytes
        if x.layout is _STRIDED:
            size = x.element_size()
            for n, stride in zip(x.shape, strides, strict=True):
                if stride or not n:
                    size *= n
            return size
    except RuntimeError:  # of a layout without strides, or of sizes that are expressions
        pass
    with dispatch_disabled():  # other counters are not to see what this asks
        return _by_layout(x)


def touched_if_strided(x: Tensor) -> int:
    """Return the bytes of a strided tensor's elements.

    Raises:
        TypeError: It has another layout.
    """
    if x.layout is not _STRIDED:
        raise TypeError(f"expected a strided tensor, got one of layout {x.layout}")
    return touched(x)


def _by_layout(x: Tensor) -> int:
    if x.layout is torch.sparse_coo:
        element = x.element_size() * math.prod(x.shape[x.sparse_dim() :])
        return x._nnz() * (_INDEX * x.sparse_dim() + element)
    parts = _COMPRESSED.get(x.layout)
    if parts is not None:
        return sum(getattr(x, part)().nbytes for part in parts)
    return x.numel() * x.element_size()


def touched_by(values: Iterable[Any], seen: set[int] | None = None) -> int:
    """Return the bytes of the distinct tensors among values, those in lists included."""
    total = 0
    seen = set() if seen is None else seen
    for x in values:
        kind = type(x)
        if kind not in _TENSORS:
            if kind in NO_TENSORS:
                continue
            if isinstance(x, (list, tuple)):
                total += touched_in(x, seen)
                continue
            if not isinstance(x, Tensor):
                continue
        key = identity(x)
        if key not in seen:
            seen.add(key)
            try:
                total += x.nbytes if x.is_contiguous() else touched(x)
            except RuntimeError:  # of a layout without strides
                total += touched(x)
    return total


def touched_in(values: Sequence[Any], seen: set[int] | None = None) -> int:
    """Sum up a list, as `touched_by` does; most hold nothing but tensors, and none of them twice."""
    if not isinstance(values, (list, tuple)):
        return touched_by((values,), seen)
    ids = {identity(x) for x in values}
    if len(ids) == len(values) and (seen is None or seen.isdisjoint(ids)):
        try:
            total = sum([x.nbytes if x.is_contiguous() else touched(x) for x in values])
        except (AttributeError, RuntimeError):  # of what is no tensor, of a layout without strides
            return touched_by(values, seen)
        if seen is not None:
            seen |= ids
        return total
    return touched_by(values, seen)


def requested(out: Sequence[Any], mask: Sequence[bool] | None) -> Sequence[Any]:
    """Return the gradients that a mask asks for: some kernels return others, too, and fake ones never do."""
    if mask is None or len(mask) != len(out) or all(mask):
        return out
    return [value for value, asked in zip(out, mask, strict=True) if asked]
