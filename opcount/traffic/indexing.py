"""Indexing: indices are read, and the elements that they point at, each as often as it is pointed at, up to all.

A mask points at all elements: only its values tell at fewer, and a count may not depend on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import touched, touched_by
from opcount.traffic.written_out import bytes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_MASKS = (torch.bool, torch.uint8)
_of_three = bytes_of(3)


def _elements(of: Tensor, count: int) -> int:
    """Return the bytes of so many elements of a tensor, at most of all."""
    return min(touched(of), count * of.itemsize)


@traffic(aten.index, aten._unsafe_index)
def index(out: Tensor, self: Tensor, indices: Sequence[Tensor | None]) -> tuple[int, int]:
    """``out = self[indices]``."""
    return touched_by(indices) + _elements(self, out.numel()), touched(out)


@traffic(aten._unsafe_masked_index)
def masked_index(out: Tensor, self: Tensor, mask: Tensor, indices: Sequence[Tensor | None]) -> tuple[int, int]:
    """``out = where(mask, self[indices], fill)``."""
    return touched_by((mask, indices)) + _elements(self, out.numel()), touched(out)


@traffic(aten.gather, aten.take, aten.index_select)
def gather(out: Tensor, self: Tensor, index: Tensor) -> tuple[int, int]:
    """``out[i] = self[index[i]]`` along a dimension."""
    return touched(index) + _elements(self, out.numel()), touched(out)


@traffic(aten.masked_select)
def masked_select(out: Tensor, self: Tensor, mask: Tensor) -> tuple[int, int]:
    """``out = self[mask]``."""
    return touched(mask) + _elements(self, out.numel()), touched(out)


@traffic(aten.index_put_, aten._index_put_impl_)
def index_put_(
    self: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> tuple[int, int]:
    """``self[indices] = values``; what values are added to is read."""
    written = _elements(self, _pointed_at(self, indices))
    return touched_by((indices, values)) + (written if accumulate else 0), written


def _pointed_at(self: Tensor, indices: Sequence[Tensor | None]) -> int:
    """Return the number of elements of ``self[indices]``; of a mask, as many as it has itself."""
    shapes, left = [], list(self.shape)
    dim = 0
    for each in indices:
        if each is None:
            dim += 1
            continue
        taken = each.dim() if each.dtype in _MASKS else 1
        shapes.append((each.numel(),) if each.dtype in _MASKS else each.shape)
        del left[dim : dim + taken]
    if not shapes:
        return self.numel()
    # To broadcast takes several times longer than all the rest.
    places = shapes[0] if shapes.count(shapes[0]) == len(shapes) else torch.broadcast_shapes(*shapes)
    return math.prod(places) * math.prod(left)


@traffic(aten.scatter_, aten.scatter_reduce_)
def scatter_(self: Tensor, index: Tensor, src: Tensor | None = None, reduce: str | None = None) -> tuple[int, int]:
    """``self[index[i]] = src[i]`` along a dimension; what is added to is read."""
    return _scatter_(self, index, src, reads=reduce is not None)


@traffic(aten.scatter_add_)
def scatter_add_(self: Tensor, index: Tensor, src: Tensor) -> tuple[int, int]:
    """``self[index[i]] += src[i]`` along a dimension."""
    return _scatter_(self, index, src, reads=True)


def _scatter_(self: Tensor, index: Tensor, src: Tensor | None, *, reads: bool) -> tuple[int, int]:
    written = _elements(self, index.numel())
    source = 0 if src is None else _elements(src, index.numel())
    return touched(index) + source + (written if reads else 0), written


@traffic(aten.scatter, aten.scatter_add, aten.scatter_reduce)
def scatter(out: Tensor, self: Tensor, index: Tensor, src: Tensor | None = None) -> tuple[int, int]:
    """``out = self``, then ``out[index[i]] = src[i]`` along a dimension."""
    source = 0 if src is None else _elements(src, index.numel())
    return touched_by((self, index)) + source, touched(out)


@traffic(aten.index_add_, aten.index_reduce_)
def index_add_(self: Tensor, index: Tensor, source: Tensor) -> tuple[int, int]:
    """``self[index[i]] += source[i]`` along a dimension."""
    written = _elements(self, source.numel())
    return touched_by((index, source)) + written, written


@traffic(aten.index_copy_)
def index_copy_(self: Tensor, index: Tensor, source: Tensor) -> tuple[int, int]:
    """``self[index[i]] = source[i]`` along a dimension."""
    return touched_by((index, source)), _elements(self, source.numel())


@traffic(aten.index_fill_)
def index_fill_(self: Tensor, dim: int, index: Tensor, value: Any) -> tuple[int, int]:
    """``self[index[i]] = value`` along a dimension."""
    size = self.size(dim) if self.dim() else 1
    return touched_by((index, value)), _elements(self, self.numel() // size * index.numel() if size else 0)


@traffic(aten.put_)
def put_(self: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> tuple[int, int]:
    """``self.view(-1)[index[i]] = source[i]``."""
    written = _elements(self, index.numel())
    return touched_by((index, source)) + (written if accumulate else 0), written


@traffic(aten.nll_loss_forward, aten.nll_loss2d_forward)
def nll_loss_forward(out: Sequence[Tensor], self: Tensor, target: Tensor, weight: Tensor | None) -> tuple[int, int]:
    """``out = -mean(weight[target[i]] * self[i, target[i]])``."""
    weights = 0 if weight is None else _elements(weight, target.numel())
    return touched(target) + weights + _elements(self, target.numel()), touched_by(out)


@traffic(aten.nll_loss_backward, aten.nll_loss2d_backward)
def nll_loss_backward(
    out: Tensor, grad_output: Tensor, target: Tensor, weight: Tensor | None, total_weight: Tensor
) -> tuple[int, int]:
    """``out[i, target[i]] = -weight[target[i]] * grad_output / total_weight``, and 0 elsewhere."""
    weights = 0 if weight is None else _elements(weight, target.numel())
    return _of_three(grad_output, target, total_weight) + weights, touched(out)
