"""Convolutions: one product of a kernel's size for each output element, or, transposed, for each input element.

A weight of shape ``(c_out, c_in / groups, *kernel)`` meets each output ``c_in / groups * prod(kernel)`` times, padded
borders included; a transposed one, ``(c_in, c_out / groups, *kernel)``, meets each input so often, and what falls into
the cropped border is counted too. Groups, stride and dilation are in the shapes. A bias is one addition for each output
element.

PyTorch computes a complex convolution as three real ones, ``(a + b)(c + d) - ac - bd`` being the imaginary part, and
these are what a counter meets: three real MACs for each complex one, where a product counts four. A complex tensor that
reaches one of the operators below would take four.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost, new_cost
from opcount.formulas._operands import real_macs
from opcount.registry import OperatorNames, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

mkldnn = OperatorNames("mkldnn")


def _taps(weight: Tensor) -> int:
    """Return ``prod(weight.shape[1:])``."""
    n: int = weight.numel() // (weight.shape[0] or 1)
    return n


def _cost(out: Tensor, driver: Tensor, weight: Tensor, epilogue: int) -> Cost:
    outputs = out.numel()
    return new_cost(Cost, (real_macs(driver.numel() * _taps(weight), out), outputs * epilogue, outputs))


@formula(aten.convolution, aten._convolution, aten.convolution_overrideable)
def convolution(
    out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None,
    _stride: object, _padding: object, _dilation: object, transposed: bool, /, *_: object,
) -> Cost:  # fmt: skip
    """``out[n, o, p] = bias[o] + sum(weight[o, c, q] * x[n, c, p + q] for c, q)``; transposed, each ``x`` is spread."""
    outputs = out.numel()  # as `_cost` does, without four calls
    macs = (input.numel() if transposed else outputs) * (weight.numel() // (weight.shape[0] or 1))
    return new_cost(Cost, (4 * macs if out.dtype.is_complex else macs, 0 if bias is None else outputs, outputs))


@formula(aten.cudnn_convolution, aten._nnpack_spatial_convolution, aten._mps_convolution, aten.mkldnn_convolution)
@formula(aten.miopen_convolution, aten.miopen_depthwise_convolution)
def biased(out: Tensor, weight: Tensor, bias: Tensor | None = None) -> Cost:
    """``out[n, o, p] = bias[o] + sum(weight[o, c, q] * x[n, c, p + q] for c, q)``; ``cudnn`` takes no bias."""
    return _cost(out, out, weight, bias is not None)


@formula(aten.cudnn_convolution_relu, aten.miopen_convolution_relu)
def biased_relu(out: Tensor, weight: Tensor, bias: Tensor | None) -> Cost:
    """``out = relu(bias + convolution(x, weight))``."""
    return _cost(out, out, weight, (bias is not None) + 1)


@formula(aten.cudnn_convolution_add_relu, aten.miopen_convolution_add_relu)
def add_relu(out: Tensor, weight: Tensor, bias: Tensor | None) -> Cost:
    """``out = relu(bias + convolution(x, weight) + alpha * z)``; ``alpha`` is taken as folded into the sum."""
    return _cost(out, out, weight, (bias is not None) + 2)


@formula(aten._slow_conv2d_forward, aten.thnn_conv2d, aten.slow_conv3d, aten.slow_conv3d_forward)
@formula(aten.slow_conv_dilated2d, aten.slow_conv_dilated3d, aten._conv_depthwise2d, aten.conv_depthwise3d)
def sized(out: Tensor, weight: Tensor, bias: Tensor | None) -> Cost:
    """``out[n, o, p] = bias[o] + sum(weight[o, c, q] * x[n, c, p + q] for c, q)``."""
    return _cost(out, out, weight, bias is not None)


@formula(aten.slow_conv_transpose2d, aten.slow_conv_transpose3d)
def sized_transposed(out: Tensor, self: Tensor, weight: Tensor, bias: Tensor | None) -> Cost:
    """``out[n, o, p + q] += weight[c, o, q] * x[n, c, p]``, and the bias."""
    return _cost(out, self, weight, bias is not None)


@formula(aten.cudnn_convolution_transpose, aten._mps_convolution_transpose, aten.miopen_convolution_transpose)
def transposed(out: Tensor, self: Tensor, weight: Tensor, bias: Tensor | None = None) -> Cost:
    """``out[n, o, p + q] += weight[c, o, q] * x[n, c, p]``, and the bias, which only ``miopen`` takes."""
    return _cost(out, self, weight, bias is not None)


@formula(mkldnn._convolution_pointwise)
def pointwise(out: Tensor, W: Tensor, B: Tensor | None, attr: str) -> Cost:
    """``out = activation(bias + convolution(x, weight))``; one operation for each activation."""
    return _cost(out, out, W, (B is not None) + (attr != "none"))


@formula(mkldnn._convolution_pointwise + ".binary", mkldnn._convolution_pointwise_ + ".binary")
def pointwise_binary(out: Tensor, W: Tensor, B: Tensor | None, unary_attr: str | None) -> Cost:
    """``out = activation((bias + convolution(x, weight)) + other)``; ``alpha`` is taken as folded into the sum."""
    return _cost(out, out, W, 1 + (B is not None) + (unary_attr not in (None, "none")))


@formula(mkldnn._convolution_transpose_pointwise)
def transpose_pointwise(out: Tensor, X: Tensor, W: Tensor, B: Tensor | None, attr: str) -> Cost:
    """``out[n, o, p + q] += weight[c, o, q] * x[n, c, p]``, the bias, and one operation for each activation.

    The weight may be packed with its channels in another order, so that they are read from ``x``.
    """
    outputs, epilogue = out.numel(), (B is not None) + (attr != "none")
    return Cost(X.numel() * (W.numel() // (X.shape[1] or 1)), outputs * epilogue, outputs)


@formula(aten.conv_tbc)
def conv_tbc(out: Tensor, weight: Tensor) -> Cost:
    """``out[t, b, o] = bias[o] + sum(weight[q, c, o] * x[t + q, b, c] for q, c)``."""
    outputs = out.numel()
    return Cost(outputs * weight.shape[0] * weight.shape[1], outputs, outputs)


@formula(aten.conv_tbc_backward)
def conv_tbc_backward(self: Tensor, weight: Tensor) -> Cost:
    """The forward's products once for the input's gradient and once for the weight's; the bias's is a sum."""
    grads = self.numel()
    return Cost(2 * grads * weight.shape[0] * weight.shape[1], grads)


def _backward(grad: Tensor, driver: Tensor, weight: Tensor, mask: Sequence[bool]) -> Cost:
    macs = driver.numel() * _taps(weight) * (mask[0] + mask[1])
    return Cost(real_macs(macs, grad), grad.numel() if len(mask) == 3 and mask[2] else 0)


@formula(aten.convolution_backward, aten.convolution_backward_overrideable)
def convolution_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, transposed: bool, output_mask: Sequence[bool]
) -> Cost:
    """``grad_x += weight * grad``, ``grad_weight += x * grad``, ``grad_bias += grad``: those that are asked for.

    Each of the first two multiplies the same pairs as the forward does, once.
    """
    return _backward(grad_output, input if transposed else grad_output, weight, output_mask)


@formula(aten.mps_convolution_backward)
def backward(grad_output: Tensor, weight: Tensor, output_mask: Sequence[bool]) -> Cost:
    """The forward's products once for each gradient that is asked for; the bias's is a sum."""
    return _backward(grad_output, grad_output, weight, output_mask)


@formula(aten.mps_convolution_transpose_backward)
def transpose_backward(self: Tensor, grad_output: Tensor, weight: Tensor, output_mask: Sequence[bool]) -> Cost:
    """The forward's products once for each gradient that is asked for."""
    return _backward(grad_output, self, weight, output_mask)


@formula(aten._slow_conv2d_backward)
def slow_conv2d_backward(
    grad_output: Tensor,
    weight: Tensor,
    output_mask: Sequence[bool] = (),
    grad_input: Tensor | None = None,
    grad_weight: Tensor | None = None,
    grad_bias: Tensor | None = None,
) -> Cost:
    """The forward's products once for each gradient that is asked for, by a mask or by a tensor to write it to."""
    asked = output_mask or [grad is not None for grad in (grad_input, grad_weight, grad_bias)]
    return _backward(grad_output, grad_output, weight, asked)
