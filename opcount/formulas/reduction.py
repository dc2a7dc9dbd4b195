"""Reductions that do not read each input element exactly once; the rest follow a rule.

By rule a sum, a maximum, a mean, a variance or a norm counts one for each input element, and so does each element of
a cumulative sum. A comparison is an operation: sorting ``n`` numbers takes ``n log2 n``, selecting among them ``n``.
Writing through an index is free until it adds to what is there.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas.pool import is_row
from opcount.formulas.sizes import broadcast_shape, log2_ceil, per_input, per_output, register, scalars
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor


@formula(
    aten.softmax,
    aten.log_softmax,
    aten._softmax,
    aten._log_softmax,
    aten._safe_softmax,
    aten._masked_softmax,
    aten._sparse_softmax,
    aten._sparse_log_softmax,
    aten._nested_tensor_softmax_with_shape,
)
def softmax(out: Tensor) -> Cost:
    """``exp(x - max(x)) / sum(exp(x - max(x)))``: five operations for each element.

    A comparison, a subtraction, an exponential, an addition and a division; the logarithm takes as many.
    """
    return Cost(0, 5 * scalars(out), 0)


@formula(
    aten._softmax_backward_data,
    aten._log_softmax_backward_data,
    aten._masked_softmax_backward,
    aten._sparse_softmax_backward_data,
    aten._sparse_log_softmax_backward_data,
)
def softmax_backward(out: Tensor) -> Cost:
    """``y * (g - sum(g * y))``, or ``g - exp(y) * sum(g)`` for the logarithm: four operations for each element."""
    return Cost(0, 4 * scalars(out), 0)


def _pools_rows(_out: Tensor, x: Tensor, /, *_: object, **__: object) -> bool:
    return is_row(x)


@formula(aten._adaptive_avg_pool2d, when=_pools_rows)
def adaptive_avg_pool1d(self: Tensor) -> Cost:
    """``out[p] = mean(x[window p])`` along one dimension: one operation for each element of the input."""
    return Cost(0, self.numel())


@formula(aten.logsumexp, aten.logcumsumexp, aten._logcumsumexp)
def logsumexp(self: Tensor) -> Cost:
    """``max(x) + log(sum(exp(x - max(x))))``: a comparison, subtraction, exponential and addition for each element."""
    return Cost(0, 4 * self.numel(), 0)


@formula(aten.sort, aten.argsort)
def sort(self: Tensor, dim: int) -> Cost:
    """``n log2 n`` comparisons for each row of ``n``, rounded up."""
    return Cost(0, self.numel() * log2_ceil(self.shape[dim] if self.dim() else 1), 0)


@formula(aten._unique, aten._unique2, aten.unique_dim)
def unique(self: Tensor) -> Cost:
    """Sort, ``n log2 n`` comparisons, then compare neighbours."""
    return Cost(0, self.numel() * (log2_ceil(self.numel()) + 1), 0)


@formula(aten.searchsorted)
def searchsorted(out: Tensor, sorted_sequence: Tensor) -> Cost:
    """A binary search in a row of ``n``, ``log2(n + 1)`` comparisons, for each output element."""
    return Cost(0, out.numel() * log2_ceil(sorted_sequence.shape[-1] + 1), 0)


@formula(aten.bucketize)
def bucketize(out: Tensor, boundaries: Tensor) -> Cost:
    """A binary search among ``n`` boundaries, ``log2(n + 1)`` comparisons, for each output element."""
    return Cost(0, out.numel() * log2_ceil(boundaries.numel() + 1), 0)


@formula(aten.isin)
def isin(out: Tensor, test_elements: Tensor | None = None) -> Cost:
    """A search among ``n`` values, ``log2(n + 1)`` comparisons, for each output element; a number is one value."""
    return Cost(0, out.numel() * log2_ceil(1 + (1 if test_elements is None else scalars(test_elements))), 0)


@formula(aten.scatter_add, aten.scatter_reduce)
@formula(*(aten.scatter + kind for kind in (".reduce", ".value_reduce", ".reduce_out", ".value_reduce_out")))
def scatter_add(index: Tensor) -> Cost:
    """``out[index[i]] += source[i]``: one operation for each index."""
    return Cost(0, index.numel(), 0)


@formula(aten.index_add)
def index_add(source: Tensor, alpha: object) -> Cost:
    """``out[index[i]] += alpha * source[i]``: one operation for each source element, two with an ``alpha``."""
    return Cost(0, source.numel() * (1 if alpha == 1 else 2), 0)


@formula(aten.index_reduce)
def index_reduce(source: Tensor) -> Cost:
    """``out[index[i]] = max(out[index[i]], source[i])``, or a product, ...: one operation for each source element."""
    return Cost(0, source.numel(), 0)


def _adds_up(accumulate: bool) -> bool:
    return accumulate


@formula(aten.index_put, aten._index_put_impl, aten._unsafe_index_put, aten.put, when=_adds_up)
def index_put(_out: Tensor, _x: Tensor, _indices: Any, values: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[indices[i]] += values[i]``: one operation for each value."""
    return Cost(0, values.numel(), 0)


@formula(aten._unsafe_masked_index_put_accumulate)
def masked_index_put(values: Tensor) -> Cost:
    """``out[indices[i]] += values[i]`` where the mask is set: a selection and an addition for each value."""
    return Cost(0, 2 * values.numel(), 0)


@formula(aten.trace)
def trace(self: Tensor) -> Cost:
    """``sum(x[i, i])``: one operation for each element of the diagonal."""
    return Cost(0, min(self.shape), 0)


@formula(aten.dist)
def dist(self: Tensor, other: Tensor) -> Cost:
    """``norm(a - b)``: a subtraction and a reduction of the broadcast difference."""
    return Cost(0, 2 * prod(broadcast_shape(self.shape, other.shape)), 0)


@formula(aten._pdist_forward)
def pdist(out: Tensor, self: Tensor) -> Cost:
    """``out[i, j] = norm(x[i] - x[j])``: two operations for each element of a row, for each pair."""
    return Cost(0, 2 * out.numel() * self.shape[-1], 0)


@formula(aten._pdist_backward)
def pdist_backward(_out: Tensor, grad: Tensor, x: Tensor, /, *_: object, **__: object) -> Cost:
    """Each pair's difference, times its gradient, is added to one row and taken from the other: four operations."""
    return Cost(0, 4 * grad.numel() * x.shape[-1], 0)


_EACH_INPUT = {
    1: """
        _coalesce col2im unfold_backward unique_consecutive unique_dim_consecutive histogram _histogramdd_bin_edges
        _histogramdd_from_bin_cts _histogramdd_from_bin_tensors
        reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward
        replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward
    """,
    2: "renorm _weight_norm_interface",
}
_EACH_OUTPUT = {5: "_weight_norm_interface_backward"}
"""Norming a weight takes its norm and one product for each element.

Backward it is ``(g / n) * (d - v * sum(d * v) / n^2)``.
"""

for _times, _names in _EACH_INPUT.items():
    register("reduction", per_input(_times), [f"aten.{name}" for name in _names.split()])
for _times, _names in _EACH_OUTPUT.items():
    register("reduction", per_output(_times), [f"aten.{name}" for name in _names.split()])
