"""Products with a sparse matrix: one multiply-accumulate for each stored value and each column of the other side.

What is stored is multiplied, explicit zeros and the blocks of a BSR matrix included; what is not stored is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.cuda import is_captured
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.tensors import sparse_indices
from opcount.cost import Cost
from opcount.formulas._operands import require
from opcount.formulas.sizes import is_sparse, per_output, register, scalars, stored
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

_STRIDED = torch.strided


def _mm_is_sparse(_out: Any, a: Tensor, b: Tensor, *_: Any, out: Any = None) -> bool:
    del out  # named, since a dict for whatever else is given would take time in every product
    return (a.layout is not _STRIDED or b.layout is not _STRIDED) and (is_sparse(a) or is_sparse(b))


def _addmm_is_sparse(
    _out: Any, _bias: Any, a: Tensor, b: Tensor, *_: Any, beta: Any = 1, alpha: Any = 1, out: Any = None
) -> bool:
    del beta, alpha, out
    return (a.layout is not _STRIDED or b.layout is not _STRIDED) and (is_sparse(a) or is_sparse(b))


@formula(aten.mm, aten.bmm, aten.mv, when=_mm_is_sparse)
def mm(out: Tensor, a: Tensor, b: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[i, j] = sum(a[i, k] * b[k, j] for stored a[i, k], b[k, j])``: nnz x n, or m x nnz."""
    return Cost(_product(a, b), 0, scalars(out))


@formula(aten._sparse_mm, aten._sparse_sparse_matmul, aten.hspmm)
def sparse_mm(out: Tensor, a: Tensor, b: Tensor, /, **_: object) -> Cost:
    """``out[i, j] = sum(a[i, k] * b[k, j] for stored a[i, k], b[k, j])``: nnz x n, or m x nnz."""
    return Cost(_product(a, b), 0, scalars(out))


@formula(aten.addmm, aten.baddbmm, aten.addmv, when=_addmm_is_sparse)
def addmm(out: Tensor, _bias: Tensor, a: Tensor, b: Tensor, /, *_: object, **__: object) -> Cost:
    """``out = bias + a @ b`` over the stored values; the bias is arithmetic."""
    outputs = scalars(out)
    return Cost(_product(a, b), outputs, outputs)


@formula(aten._sparse_addmm, aten.sspaddmm)
def sparse_addmm(out: Tensor, self: Tensor, mat1: Tensor, mat2: Tensor) -> Cost:
    """``out = bias + a @ b`` over the stored values; the bias is arithmetic."""
    return addmm(out, self, mat1, mat2)


@formula(aten.sparse_sampled_addmm)
def sampled_addmm(out: Tensor, self: Tensor, mat1: Tensor, mat2: Tensor) -> Cost:
    """``out[i, j] = pattern[i, j] + sum(a[i, k] * b[k, j] for k)`` where the pattern stores a value: nnz x k."""
    del mat2
    values = stored(self)
    return Cost(_real(out) * values * mat1.shape[-1], values, values)


@formula(aten._sparse_mm_reduce_impl)
def mm_reduce(out: tuple[Tensor, Tensor], self: Tensor, other: Tensor) -> Cost:
    """``out[i, j] = reduce(a[i, k] * b[k, j] for stored a[i, k])``: nnz x n, whatever reduces."""
    return Cost(stored(self) * other.shape[-1], 0, out[0].numel())


@formula(aten._sparse_mm_reduce_impl_backward)
def mm_reduce_backward(self: Tensor, grad_out: Tensor, output_mask: list[bool]) -> Cost:
    """Gradients asked for, of the matrix's values and of the dense one: nnz x n."""
    return Cost(sum(output_mask) * stored(self) * grad_out.shape[-1], 0, 0)


@formula(aten._sparse_semi_structured_mm)
def semi_structured_mm(out: Tensor, mat1: Tensor) -> Cost:
    """``out = a @ b`` where two of four values are stored: half of a dense product."""
    return Cost(out.numel() * mat1.shape[-1], 0, out.numel())


@formula(aten._sparse_semi_structured_addmm)
def semi_structured_addmm(out: Tensor, mat1: Tensor) -> Cost:
    """``out = bias + a @ b`` where two of four values are stored: half of a dense product."""
    outputs = out.numel()
    return Cost(outputs * mat1.shape[-1], outputs, outputs)


@formula(aten._sparse_semi_structured_linear)
def semi_structured_linear(out: Tensor, weight: Tensor, bias: Tensor | None) -> Cost:
    """``out = x @ weight.T`` where two of four weights are stored: half of a dense product."""
    outputs = out.numel()
    return Cost(outputs * weight.shape[-1], outputs if bias is not None else 0, outputs)


@formula(aten._cslt_sparse_mm)
def cslt_mm(out: Tensor, dense_B: Tensor, bias: Tensor | None) -> Cost:
    """``out = a @ b`` where two of four values are stored: half of a dense product."""
    outputs = out.numel()
    return Cost(outputs * (dense_B.shape[-2] // 2), outputs if bias is not None else 0, outputs)


register("sparse", per_output(1), ["aten._sparse_semi_structured_apply", "aten._sparse_semi_structured_apply_dense"])


def _product(a: Tensor, b: Tensor) -> int:
    if not is_sparse(b):
        return _real(a) * stored(a) * (b.shape[-1] if b.dim() > 1 else 1)
    if not is_sparse(a):
        return _real(a) * stored(b) * a.shape[-2]
    return _real(a) * _meetings(a, b)


def _meetings(a: Tensor, b: Tensor) -> int:
    """Count the pairs ``a[i, k], b[k, j]`` of two sparse matrices that are both stored."""
    require(not is_captured(a), "indices that can be read, not those in a CUDA graph that is being captured", a)
    with dispatch_disabled():  # other counters are not to see what this computes
        columns = torch.bincount(_indices(a, 1), minlength=a.shape[1])
        rows = torch.bincount(_indices(b, 0), minlength=b.shape[0])
        return int((columns * rows).sum())


def _indices(x: Tensor, dim: int) -> Tensor:
    coo = x if x.layout is torch.sparse_coo else x.to_sparse()
    return sparse_indices(coo)[dim]


def _real(x: Tensor) -> int:
    return 4 if x.is_complex() else 1
