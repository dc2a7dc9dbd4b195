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
from opcount.registry import Names, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

mkldnn = Names("mkldnn")


def _taps(weight: Tensor) -> int:
    """Return ``prod(weight.shape[1:])``."""
    n: int = weight.numel() // (weight.shape[0] or 1)
    return n


def _cost(out: Tensor, driver: Tensor, weight: Tensor, epilogue: int) -> Cost:
    outputs = out.numel()
    return new_cost(Cost, (real_macs(driver.numel() * _taps(weight), out), outputs * epilogue, outputs))


@formula(aten.convolution, aten._convolution, aten.convolution_overrideable)
def convolution(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    /,
    *_: object,
    **__: object,
) -> Cost:
    """``out[n, o, p] = bias[o] + sum(weight[o, c, q] * x[n, c, p + q] for c, q)``; transposed, each ``x`` is spread."""
    return _cost(out, x if transposed else out, weight, bias is not None)


@formula(aten.cudnn_convolution, aten._nnpack_spatial_convolution, aten._mps_convolution, aten.mkldnn_convolution)
@formula(aten.miopen_convolution, aten.miopen_depthwise_convolution)
def biased(out: Tensor, _x: Tensor, weight: Tensor, bias: object = None, /, *_: object, **__: object) -> Cost:
    """``out[n, o, p] = bias[o] + sum(weight[o, c, q] * x[n, c, p + q] for c, q)``.

    In the place of the bias ``cudnn_convolution`` takes a list, the padding: it has none.
    """
    return _cost(out, out, weight, hasattr(bias, "numel"))


@formula(aten.cudnn_convolution_relu, aten.miopen_convolution_relu)
def biased_relu(out: Tensor, _x: Tensor, weight: Tensor, bias: Tensor | None, /, *_: object, **__: object) -> Cost:
    """``out = relu(bias + convolution(x, weight))``."""
    return _cost(out, out, weight, (bias is not None) + 1)


@formula(aten.cudnn_convolution_add_relu, aten.miopen_convolution_add_relu)
def add_relu(
    out: Tensor,
    _x: Tensor,
    weight: Tensor,
    _z: Tensor,
    _alpha: object,
    bias: Tensor | None,
    /,
    *_: object,
    **__: object,
) -> Cost:
    """``out = relu(bias + convolution(x, weight) + alpha * z)``; ``alpha`` is taken as folded into the sum."""
    return _cost(out, out, weight, (bias is not None) + 2)


@formula(aten._slow_conv2d_forward, aten.thnn_conv2d, aten.slow_conv3d, aten.slow_conv3d_forward)
@formula(aten.slow_conv_dilated2d, aten.slow_conv_dilated3d, aten._conv_depthwise2d, aten.conv_depthwise3d)
def sized(
    out: Tensor, _x: Tensor, weight: Tensor, _kernel: object, bias: Tensor | None = None, /, *_: object, **__: object
) -> Cost:
    """``out[n, o, p] = bias[o] + sum(weight[o, c, q] * x[n, c, p + q] for c, q)``."""
    return _cost(out, out, weight, bias is not None)


@formula(aten.slow_conv_transpose2d, aten.slow_conv_transpose3d)
def sized_transposed(
    out: Tensor, x: Tensor, weight: Tensor, _kernel: object, bias: Tensor | None = None, /, *_: object, **__: object
) -> Cost:
    """``out[n, o, p + q] += weight[c, o, q] * x[n, c, p]``, and the bias."""
    return _cost(out, x, weight, bias is not None)


@formula(aten.cudnn_convolution_transpose, aten._mps_convolution_transpose, aten.miopen_convolution_transpose)
def transposed(out: Tensor, x: Tensor, weight: Tensor, bias: object = None, /, *_: object, **__: object) -> Cost:
    """``out[n, o, p + q] += weight[c, o, q] * x[n, c, p]``, and the bias, which only ``miopen`` takes."""
    return _cost(out, x, weight, hasattr(bias, "numel"))


@formula(mkldnn._convolution_pointwise)
def pointwise(
    out: Tensor,
    _x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    _padding: object,
    _stride: object,
    _dilation: object,
    _groups: int,
    activation: str = "none",
    /,
    *_: object,
) -> Cost:
    """``out = activation(bias + convolution(x, weight))``; one operation for each activation."""
    return _cost(out, out, weight, (bias is not None) + (activation != "none"))


@formula(mkldnn._convolution_pointwise + ".binary")
def pointwise_binary(
    out: Tensor,
    _x: Tensor,
    _other: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    _padding: object,
    _stride: object,
    _dilation: object,
    _groups: int,
    _binary: str,
    _alpha: object = None,
    activation: str | None = None,
    /,
    *_: object,
) -> Cost:
    """``out = activation((bias + convolution(x, weight)) + other)``; ``alpha`` is taken as folded into the sum."""
    return _cost(out, out, weight, 1 + (bias is not None) + (activation not in (None, "none")))


@formula(mkldnn._convolution_pointwise_ + ".binary")
def pointwise_binary_(out: Tensor, other: Tensor, x: Tensor, /, *args: object) -> Cost:
    """``other = activation((bias + convolution(x, weight)) + other)``."""
    return pointwise_binary(out, x, other, *args)  # type: ignore[arg-type]


@formula(mkldnn._convolution_transpose_pointwise)
def transpose_pointwise(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    _padding: object,
    _output_padding: object,
    _stride: object,
    _dilation: object,
    _groups: int,
    activation: str = "none",
    /,
    *_: object,
) -> Cost:
    """``out[n, o, p + q] += weight[c, o, q] * x[n, c, p]``, the bias, and one operation for each activation.

    The weight may be packed with its channels in another order, so that they are read from ``x``.
    """
    outputs, epilogue = out.numel(), (bias is not None) + (activation != "none")
    return Cost(x.numel() * (weight.numel() // (x.shape[1] or 1)), outputs * epilogue, outputs)


@formula(aten.conv_tbc)
def conv_tbc(out: Tensor, _x: Tensor, weight: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[t, b, o] = bias[o] + sum(weight[q, c, o] * x[t + q, b, c] for q, c)``."""
    outputs = out.numel()
    return Cost(outputs * weight.shape[0] * weight.shape[1], outputs, outputs)


@formula(aten.conv_tbc_backward)
def conv_tbc_backward(_out: object, grad: Tensor, _x: Tensor, weight: Tensor, /, *_: object, **__: object) -> Cost:
    """The forward's products once for the input's gradient and once for the weight's; the bias's is a sum."""
    grads = grad.numel()
    return Cost(2 * grads * weight.shape[0] * weight.shape[1], grads)


def _backward(grad: Tensor, driver: Tensor, weight: Tensor, mask: Sequence[bool]) -> Cost:
    macs = driver.numel() * _taps(weight) * (mask[0] + mask[1])
    return Cost(real_macs(macs, grad), grad.numel() if len(mask) == 3 and mask[2] else 0)


@formula(aten.convolution_backward)
def convolution_backward(
    _out: object,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    mask: Sequence[bool],
    /,
    **_: object,
) -> Cost:
    """``grad_x += weight * grad``, ``grad_weight += x * grad``, ``grad_bias += grad``: those that are asked for.

    Each of the first two multiplies the same pairs as the forward does, once.
    """
    return _backward(grad, x if transposed else grad, weight, mask)


@formula(aten.convolution_backward_overrideable)
def convolution_backward_overrideable(
    out: object, grad: Tensor, x: Tensor, weight: Tensor, /, *options: object, **_: object
) -> Cost:
    """As `convolution_backward`, whose ``bias_sizes`` it lacks."""
    return convolution_backward(out, grad, x, weight, None, *options)  # type: ignore[arg-type]


@formula(aten.mps_convolution_backward)
def backward(_out: object, _x: Tensor, grad: Tensor, weight: Tensor, /, *options: Sequence[bool], **_: object) -> Cost:
    """The forward's products once for each gradient that is asked for; the bias's is a sum."""
    return _backward(grad, grad, weight, options[-1])


@formula(aten.mps_convolution_transpose_backward)
def transpose_backward(
    _out: object, x: Tensor, grad: Tensor, weight: Tensor, /, *options: Sequence[bool], **_: object
) -> Cost:
    """The forward's products once for each gradient that is asked for."""
    return _backward(grad, x, weight, options[-1])


@formula(aten._slow_conv2d_backward)
def slow_conv2d_backward(
    _out: object, grad: Tensor, _x: Tensor, weight: Tensor, /, *options: Sequence[bool], **outs: Tensor | None
) -> Cost:
    """The forward's products once for each gradient that is asked for, by a mask or by a tensor to write it to."""
    asked = [outs.get(f"grad_{what}") is not None for what in ("input", "weight", "bias")] if outs else options[-1]
    return _backward(grad, grad, weight, asked)
