"""Matrix products: one dot product of length ``k`` for each output element.

A complex MAC is four real ones; a complex convolution, which PyTorch computes as three real ones, counts three. A bias
is one addition for each output element; ``alpha``, ``beta`` and the scales of quantized operands are taken as folded
into the product.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from opcount.cost import Cost, new_cost
from opcount.formulas._operands import depth, host_ints, nested_sizes, real_macs
from opcount.registry import OperatorNames, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

mkl, mkldnn, inductor, symm_mem = (
    OperatorNames("mkl"),
    OperatorNames("mkldnn"),
    OperatorNames("inductor"),
    OperatorNames("symm_mem"),
)


@formula(aten.mm, aten.bmm, aten.mv, aten.matmul, aten._int_mm, symm_mem._async_input_mm)
@formula(aten._weight_int4pack_mm, aten._weight_int4pack_mm_for_cpu, aten._weight_int4pack_mm_with_scales_and_zeros)
@formula(aten._weight_int8pack_mm)
def mm(out: Tensor, a: Tensor, _b: object = None, /, *_: object, **__: object) -> Cost:
    """``out[..., m, n] = sum(a[..., m, k] * b[..., k, n] for k)``.

    A packed weight has another shape, but not another product.
    """
    outputs = out.numel()
    macs = outputs * a.shape[-1]
    return new_cost(Cost, (4 * macs if out.dtype.is_complex else macs, 0, outputs))  # real_macs, without the call


@formula(aten.addmm, aten.baddbmm, aten.addmv)
def addmm(out: Tensor, _bias: Tensor, a: Tensor, /, *_: object, beta: float = 1, **__: object) -> Cost:
    """``out[..., m, n] = bias[..., m, n] + sum(a[..., m, k] * b[..., k, n] for k)``; the bias is arithmetic.

    With ``beta=0`` the bias is not read.
    """
    outputs = out.numel()
    macs = outputs * a.shape[-1]
    return new_cost(Cost, (4 * macs if out.dtype.is_complex else macs, outputs if beta else 0, outputs))


@formula(aten._addmm_activation)
def addmm_activation(out: Tensor, mat1: Tensor, beta: float) -> Cost:
    """``out = activation(bias + a @ b)``: a product, its bias, and one operation for each output element."""
    outputs = out.numel()
    return Cost(outputs * mat1.shape[-1], 2 * outputs if beta else outputs, outputs)


@formula(aten.addbmm)
def addbmm(out: Tensor, batch1: Tensor, batch2: Tensor, beta: float) -> Cost:
    """``out[m, n] = bias[m, n] + sum(a[b, m, k] * b[b, k, n] for b, k)``."""
    outputs = out.numel()
    return Cost(real_macs(batch1.numel() * batch2.shape[-1], out), outputs if beta else 0, outputs)


@formula(aten.addr)
def addr(out: Tensor, beta: float) -> Cost:
    """``out[m, n] = bias[m, n] + a[m] * b[n]``: a product of depth 1."""
    outputs = out.numel()
    return Cost(real_macs(outputs, out), outputs if beta else 0, outputs)


@formula(aten.dot, aten.vdot)
def dot(self: Tensor) -> Cost:
    """``out = sum(a[k] * b[k] for k)``."""
    return Cost(real_macs(self.numel(), self), 0, 1)


@formula(aten._foreach_mm)
def foreach_mm(out: Sequence[Tensor], self: Sequence[Tensor]) -> Cost:
    """``out[i] = a[i] @ b[i]``."""
    return sum((mm(o, x) for o, x in zip(out, self, strict=True)), Cost())


@formula(inductor._mm_plus_mm)
def mm_plus_mm(out: Tensor, a: Tensor, c: Tensor) -> Cost:
    """``out = a @ b + c @ d``."""
    outputs = out.numel()
    return Cost(real_macs(outputs * (a.shape[-1] + c.shape[-1]), out), outputs, 2 * outputs)


@formula(aten._scaled_mm, aten._scaled_mm_v2)
def scaled_mm(out: Tensor, self: Tensor, bias: Tensor | None) -> Cost:
    """``out = (scale_a * a) @ (scale_b * b) + bias``; the scales are folded into the product."""
    outputs = out.numel()
    return Cost(outputs * depth(self), 0 if bias is None else outputs, outputs)


@formula(aten._scaled_addmm)
def scaled_addmm(out: Tensor, _bias: Tensor, a: Tensor, /, *_: object, beta: float = 1, **__: object) -> Cost:
    """``out = bias + (scale_a * a) @ (scale_b * b)``; the scales are folded into the product."""
    outputs = out.numel()
    return Cost(outputs * depth(a), outputs if beta else 0, outputs)


@formula(aten._dyn_quant_matmul_4bit)
def dyn_quant_matmul(out: Tensor, in_features: int) -> Cost:
    """``out[m, n] = sum(x[m, k] * weight[k, n] for k)``; the weight is packed with its scales and bias."""
    outputs = out.numel()
    return Cost(outputs * in_features, 0, outputs)


@formula(aten._grouped_mm, aten._scaled_grouped_mm, aten._scaled_grouped_mm_v2)
def grouped_mm(out: Tensor, self: Tensor, mat2: Tensor, offs: Tensor | None, bias: Tensor | None) -> Cost:
    """``out[rows of g] = a[rows of g] @ b[g]``: only the rows, columns or depth that ``offs`` routes to a group.

    ``offs`` holds the end of each group in the dimension that ``a`` and ``b`` do not both split by group: the rows of
    a 2-D ``a``, the columns of a 2-D ``b``, or the depth when both are 2-D. What lies behind the last end is not
    computed. Where ``offs`` cannot be read (fake tensors) all of the dimension is taken. Scales are folded into the
    product.
    """
    macs = out.numel() * depth(self) if offs is None else _grouped_macs(self, mat2, offs)
    return Cost(macs, 0 if bias is None else out.numel(), out.numel())


def _grouped_macs(a: Tensor, b: Tensor, offs: Tensor) -> int:
    m, k, n = a.shape[-2], depth(a), b.shape[-1]
    ends = host_ints(offs)
    if ends is None:
        return m * k * n
    routed = ends[-1] if ends else 0
    if a.dim() == 3:
        return m * k * routed
    return m * routed * n if b.dim() == 2 else routed * k * n


@formula(aten.linear, aten.mkldnn_linear)
def linear(out: Tensor, weight: Tensor, bias: Tensor | None) -> Cost:
    """``out[..., n] = bias[n] + sum(x[..., k] * weight[n, k] for k)``."""
    outputs = out.numel()
    return Cost(real_macs(outputs * weight.shape[-1], out), 0 if bias is None else outputs, outputs)


@formula(aten._mixed_dtypes_linear)
def mixed_dtypes_linear(out: Tensor, input: Tensor, bias: Tensor | None, activation: str | None) -> Cost:
    """``out = activation(bias + x @ (scale * weight))``; one operation for each activation."""
    outputs = out.numel()
    epilogue = (bias is not None) + (activation not in (None, "none"))
    return Cost(outputs * input.shape[-1], outputs * epilogue, outputs)


@formula(mkldnn._linear_pointwise)
def linear_pointwise(out: Tensor, X: Tensor, B: Tensor | None, attr: str) -> Cost:
    """``out = activation(bias + x @ weight.T)``; one operation for each activation."""
    outputs = out.numel()
    return Cost(outputs * X.shape[-1], outputs * ((B is not None) + (attr != "none")), outputs)


@formula(mkldnn._linear_pointwise + ".binary")
def linear_binary(out: Tensor, X: Tensor, B: Tensor | None) -> Cost:
    """``out = (bias + x @ weight.T) + other``, or another operation in place of the last."""
    outputs = out.numel()
    return Cost(outputs * X.shape[-1], outputs * ((B is not None) + 1), outputs)


@formula(mkl._mkl_linear)
def mkl_linear(out: Tensor, X: Tensor, B: Tensor | None) -> Cost:
    """``out = bias + x @ weight.T``."""
    outputs = out.numel()
    return Cost(outputs * X.shape[-1], 0 if B is None else outputs, outputs)


@formula(aten.linear_backward, aten.mkldnn_linear_backward)
def linear_backward(grad_output: Tensor, weight: Tensor, output_mask: Sequence[bool]) -> Cost:
    """``grad_x = grad @ weight``, ``grad_weight = grad.T @ x``, ``grad_bias = grad.sum(0)``: those asked for."""
    grads = grad_output.numel()
    return Cost(
        real_macs(grads * weight.shape[-1] * (output_mask[0] + output_mask[1]), grad_output),
        grads if output_mask[2] else 0,
    )


@formula(aten.mkldnn_linear_backward_input)
def linear_backward_input(grad_output: Tensor, weight: Tensor) -> Cost:
    """``grad_x = grad @ weight``."""
    return Cost(grad_output.numel() * weight.shape[-1])


@formula(aten.mkldnn_linear_backward_weights)
def linear_backward_weights(grad_output: Tensor, weight: Tensor, bias_defined: bool) -> Cost:
    """``grad_weight = grad.T @ x``, ``grad_bias = grad.sum(0)``."""
    grads = grad_output.numel()
    return Cost(grads * weight.shape[-1], grads if bias_defined else 0)


def _is_nested(_out: Tensor, a: Tensor, /, *_: object, **__: object) -> bool:
    return a.is_nested


@formula(aten.bmm, aten.matmul, when=_is_nested)
def nested_matmul(out: Tensor, self: Tensor) -> Cost:
    """``out[i] = a[i] @ b[i]``: each component has a depth of its own."""
    products = zip(nested_sizes(out), nested_sizes(self), strict=True)
    return Cost(sum(prod(o) * rows[-1] for o, rows in products), 0, out.numel())


@formula(aten.matmul_backward)
def nested_matmul_backward(grad: Tensor, self: Tensor, mask: Sequence[bool]) -> Cost:
    """``grad_a[i] = grad[i] @ b[i].T``, ``grad_b[i] = a[i].T @ grad[i]``: the forward's products once for each."""
    return (mask[0] + mask[1]) * Cost(nested_matmul(grad, self).macs)


@formula(aten._trilinear)
def trilinear(
    out: Tensor,
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
) -> Cost:
    """``out = sum(x * weight * y)``: ``x`` with ``weight``, summed where ``y`` is constant, and the result with ``y``.

    For ``bilinear`` that is ``x[b, i] * weight[n, i, j]`` and then ``[b, n, j] * y[b, j]``:
    ``out.numel * (in1 * in2 + in2)``. The gradients are products of the same kind.
    """
    sizes = _sizes_of_trilinear((i1, i2, i3), (expand1, expand2, expand3))
    first = prod(n for d, n in enumerate(sizes) if not (d in expand1 and d in expand2))
    second = prod(n for d, n in enumerate(sizes) if not (d in expand3 and d in sumdim))
    return Cost(real_macs(first + second, i1), 0, out.numel())


def _sizes_of_trilinear(operands: Sequence[Tensor], skips: Sequence[Sequence[int]]) -> list[int]:
    """Return the size of each dimension of the whole product; an operand lacks the dimensions it skips."""
    sizes = [1] * (operands[0].dim() + len(skips[0]))
    for operand, skipped in zip(operands, skips, strict=True):
        kept = [d for d in range(len(sizes)) if d not in skipped]
        for d, n in zip(kept, operand.shape, strict=True):
            sizes[d] = max(sizes[d], n)
    return sizes


@formula(aten._euclidean_dist)
def euclidean_dist(out: Tensor, x1: Tensor, x2: Tensor) -> Cost:
    """``out[p, r] = sqrt(|x[p]|^2 - 2 * sum(x[p, m] * y[r, m] for m) + |y[r]|^2)``: a product; the rest is arithmetic.

    The rest is two operations for each element of ``x`` and ``y``, and four for each distance: two sums, a clamp and
    a root.
    """
    pairs = out.numel()
    return Cost(pairs * x1.shape[-1], 2 * (x1.numel() + x2.numel()) + 4 * pairs, pairs)


@formula(aten._cdist_forward)
def cdist(out: Tensor, x1: Tensor, x2: Tensor, p: float, compute_mode: int | None) -> Cost:
    """``out[p, r] = norm(x[p] - y[r], p)``; Euclidean ones through a product where PyTorch does so.

    That is in mode 1, and in mode 0 with more than 25 rows. Else each distance takes, for each coordinate, a
    difference, a power (a magnitude, a square) and a sum, and a root at the end.
    """
    if p == 2 and (compute_mode == 1 or (not compute_mode and max(x1.shape[-2], x2.shape[-2]) > 25)):
        return euclidean_dist(out, x1, x2)
    return Cost(0, out.numel() * (3 * x1.shape[-1] + 1))


@formula(aten._cdist_backward)
def cdist_backward(_out: Tensor, grad: Tensor, x: Tensor, /, *_: object, **__: object) -> Cost:
    """``grad_x[p] = sum(grad[p, r] * d(p, r) * (x[p] - y[r]) for r)``.

    For each coordinate of each pair a difference, a power, a product and a sum, and for each pair a factor ``d``.
    """
    return Cost(0, grad.numel() * (4 * x.shape[-1] + 1))
