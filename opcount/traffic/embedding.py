"""Embeddings: the rows that are looked up are read; each look-up counts, up to the whole table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import touched, touched_by

if TYPE_CHECKING:
    from torch import Tensor


def _rows(table: Tensor, indices: Tensor) -> int:
    return min(touched(table), indices.numel() * table.size(-1) * table.element_size())


@traffic(aten.embedding)
def embedding(out: Tensor, weight: Tensor, indices: Tensor) -> tuple[int, int]:
    """``out[i] = weight[indices[i]]``."""
    rows = out.nbytes
    return touched(indices) + min(touched(weight), rows), rows


@traffic(aten._embedding_bag, aten._embedding_bag_forward_only)
def embedding_bag(
    out: tuple[Tensor, ...], weight: Tensor, indices: Tensor, offsets: Tensor, per_sample_weights: Tensor | None
) -> tuple[int, int]:
    """``out[bag] = sum(weight[i] for i in bag)``; what the backward needs to know of bags is left out."""
    return touched_by((indices, offsets, per_sample_weights)) + _rows(weight, indices), touched_by(out[:1])


@traffic(aten._embedding_bag_per_sample_weights_backward)
def per_sample_weights_backward(
    out: Tensor, grad: Tensor, weight: Tensor, indices: Tensor, offset2bag: Tensor
) -> tuple[int, int]:
    """``out[i] = sum(grad[bag of i] * weight[i])``."""
    return touched_by((grad, indices, offset2bag)) + _rows(weight, indices), touched(out)


@traffic(aten.embedding_renorm_)
def embedding_renorm_(self: Tensor, indices: Tensor) -> tuple[int, int]:
    """Rows that are looked up are read, and written."""
    rows = _rows(self, indices)
    return touched(indices) + rows, rows
