"""Embeddings: looking a row up is free, adding rows up is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.formulas.sizes import per_input, register
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

_MEAN = 1


@formula(aten._embedding_bag, aten._embedding_bag_forward_only)
def embedding_bag(
    out: tuple[Tensor, ...], weight: Tensor, indices: Tensor, mode: int, per_sample_weights: Tensor | None
) -> Cost:
    """``out[bag] = sum(weight[i] for i in bag)``: one operation for each element of each row that is looked up.

    Two with weights of their own; a mean divides each output once. A maximum compares as often as a sum adds.
    """
    looked_up = indices.numel() * weight.shape[-1]
    arith = looked_up * (1 if per_sample_weights is None else 2) + (out[0].numel() if mode == _MEAN else 0)
    return Cost(0, arith, 0)


@formula(aten._embedding_bag_backward, aten._embedding_bag_dense_backward, aten._embedding_bag_sparse_backward)
def embedding_bag_backward(grad: Tensor, indices: Tensor) -> Cost:
    """The gradient of a bag is added to each row of it: one operation for each element of each row."""
    return Cost(0, indices.numel() * grad.shape[-1], 0)


@formula(aten._embedding_bag_per_sample_weights_backward)
def per_sample_weights_backward(weight: Tensor, indices: Tensor) -> Cost:
    """``out[i] = sum(grad[bag of i] * weight[i])``: a product and an addition for each element of each row."""
    return Cost(0, 2 * indices.numel() * weight.shape[-1], 0)


@formula(aten.embedding_renorm)
def embedding_renorm(self: Tensor, indices: Tensor) -> Cost:
    """Rows that are looked up are normed and scaled: two operations for each element."""
    return Cost(0, 2 * indices.numel() * self.shape[-1], 0)


register("embedding", per_input(1), ["aten.embedding_dense_backward"])
