"""Deformable convolutions and attention: bilinear samples at learned places, and the products that they meet.

A sample takes four operations (see `vision`). A deformable convolution has the products of the convolution, and the
samples of all input channels for each tap; a mask is one operation for each sample. Deformable attention weighs the
samples of each query and adds them up: one multiply-accumulate for each sample, which with its four operations makes
the five that the paper counts ("the factor of 5 is because of bilinear interpolation and the weighted sum in
attention", Deformable DETR, arXiv 2010.04159, section 3.2). The slow path of PyTorch operators (``grid_sample``, a
product, a sum) counts no MAC and six operations: as many under the convention ``full``.

Backward, each axis of an offset costs what spreading over the input does, as in `resample`'s grid sampler.

Sources: the classes of mmcv 1.0 to 2.2 (``mmcv/ops``), mmdetection 1, BasicSR, detectron2 (``detectron2/layers``),
CharlesShang/DCNv2, fundamentalvision/Deformable-DETR, OpenGVLab/InternImage (DCNv3) and DCNv4 1.0; the arguments of
``apply`` agree in what is read here.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, require
from opcount.formulas.vision import BILINEAR
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd = OperatorNames("autograd")


@formula(autograd.DeformConv2dFunction, autograd.DeformConvFunction, autograd._DeformConv)
def deform_conv(out: Tensor, x: Tensor, offset: Tensor, weight: Tensor, /, *_: object) -> Cost:
    """``out[o, p] = sum(weight[o, c, q] * x[c, p + q + offset[q]] for c, q)``: its products, four for each sample."""
    _check(out, x, offset, weight)
    outputs = out.numel()
    return Cost(outputs * prod(weight.shape[1:]), BILINEAR * _samples(out, x, weight), outputs)


@formula(autograd.DeformConv2dFunctionBackward, autograd.DeformConvFunctionBackward, autograd._DeformConvBackward)
def deform_conv_backward(out: Tensor, x: Tensor, offset: Tensor, weight: Tensor, /, *_: object) -> Cost:
    """The products for the samples' gradients, and for the weight's; see `_backward`."""
    _check(out, x, offset, weight)
    return _backward(out, x, weight, BILINEAR, (x, offset))


@formula(autograd.ModulatedDeformConv2dFunction, autograd.ModulatedDeformConvFunction)
@formula(autograd._ModulatedDeformConv, autograd._DCNv2)
def modulated_deform_conv(
    out: Tensor, x: Tensor, offset: Tensor, _mask: Tensor, weight: Tensor, bias: Tensor | None = None, /, *_: object
) -> Cost:
    """A deformable convolution whose samples are each multiplied by a mask: its products, five for each sample."""
    _check(out, x, offset, weight)
    outputs = out.numel()
    arith = (BILINEAR + 1) * _samples(out, x, weight) + outputs * _has(bias)
    return Cost(outputs * prod(weight.shape[1:]), arith, outputs)


@formula(autograd.ModulatedDeformConv2dFunctionBackward, autograd.ModulatedDeformConvFunctionBackward)
@formula(autograd._ModulatedDeformConvBackward, autograd._DCNv2Backward)
def modulated_deform_conv_backward(
    out: Tensor, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None, /, *_: object
) -> Cost:
    """The products for the samples' gradients, and for the weight's; one for each output for a bias."""
    _check(out, x, offset, weight)
    made = _backward(out, x, weight, BILINEAR + 1, (x, offset, mask))
    return made + Cost(0, out.numel() * (_has(bias) and needs_grad(bias)))


@formula(autograd.MultiScaleDeformableAttnFunction, autograd.MSDeformAttnFunction)
@formula(autograd.MultiScaleDeformableAttentionFunction)
def multi_scale_attention(
    out: Tensor, value: Tensor, _shapes: Tensor, _starts: Tensor, places: Tensor, weights: Tensor, /, *_: object
) -> Cost:
    """``out[b, q, h] = sum(weight[b, q, h, l, p] * value_l[b, h, place[b, q, h, l, p]] for l, p)``.

    For each output element one MAC and four operations for each of ``levels x points`` samples.
    """
    _check_attention(out, value, places, weights)
    return _weighed(out, prod(weights.shape[3:]))


@formula(autograd.MultiScaleDeformableAttnFunctionBackward, autograd.MSDeformAttnFunctionBackward)
@formula(autograd.MultiScaleDeformableAttentionFunctionBackward)
def multi_scale_attention_backward(
    out: Tensor, value: Tensor, _shapes: Tensor, _starts: Tensor, places: Tensor, weights: Tensor, /, *_: object
) -> Cost:
    """As forward for the values, as much for the weights, and as much for each of the two axes of a place."""
    _check_attention(out, value, places, weights)
    return _weighed(out, prod(weights.shape[3:]), value, weights, places)


@formula(autograd.FlashDeformAttnFunction)
def flash_deform_attention(
    out: Tensor, value: Tensor, _shapes: Tensor, _starts: Tensor, mixed: Tensor, /, *_: object
) -> Cost:
    """Deformable attention whose weights are a softmax inside the kernel: five operations more for each weight.

    Places and weights lie in one tensor, three numbers for each sample. DCNv4 (arXiv 2401.06197).
    """
    points = _mixed_points(value, mixed)
    return _weighed(out, points) + Cost(0, 5 * mixed.numel() // 3)


@formula(autograd.FlashDeformAttnFunctionBackward)
def flash_deform_attention_backward(
    out: Tensor, value: Tensor, _shapes: Tensor, _starts: Tensor, mixed: Tensor, /, *_: object
) -> Cost:
    """As `multi_scale_attention_backward`; the softmax takes four operations for each weight."""
    points = _mixed_points(value, mixed)
    return _weighed(out, points, value, mixed, mixed) + Cost(0, 4 * mixed.numel() // 3 * needs_grad(mixed))


@formula(autograd.DCNv3Function)
def dcnv3(out: Tensor, x: Tensor, offset: Tensor, mask: Tensor, /, *args: int) -> Cost:
    """``out[p, c] = sum(mask[p, g, q] * x[p + q + offset[p, g, q], c] for q)``: a MAC and four for each sample.

    Depthwise: the taps have no weights but the mask. InternImage (arXiv 2211.05778).
    """
    return _weighed(out, _taps(x, offset, mask, args))


@formula(autograd.DCNv3FunctionBackward)
def dcnv3_backward(out: Tensor, x: Tensor, offset: Tensor, mask: Tensor, /, *args: int) -> Cost:
    """As forward for the input, as much for the mask, and as much for each of the two axes of an offset."""
    return _weighed(out, _taps(x, offset, mask, args), x, mask, offset)


@formula(autograd.DCNv4Function)
def dcnv4(out: Tensor, x: Tensor, mixed: Tensor, kernel_h: int, kernel_w: int, /, *args: int) -> Cost:
    """As `dcnv3`; offsets and mask lie in one tensor, which is padded. DCNv4 (arXiv 2401.06197)."""
    return _weighed(out, _kernel_taps(x, mixed, kernel_h * kernel_w, args))


@formula(autograd.DCNv4FunctionBackward)
def dcnv4_backward(out: Tensor, x: Tensor, mixed: Tensor, kernel_h: int, kernel_w: int, /, *args: int) -> Cost:
    """As `dcnv3_backward`."""
    return _weighed(out, _kernel_taps(x, mixed, kernel_h * kernel_w, args), x, mixed, mixed)


def _samples(out: Tensor, x: Tensor, weight: Tensor) -> int:
    """Count the samples of all input channels for each tap and place."""
    return out.numel() // (out.shape[1] or 1) * x.shape[1] * prod(weight.shape[2:])


def _backward(out: Tensor, x: Tensor, weight: Tensor, sample: int, sampled: tuple[Tensor, ...]) -> Cost:
    """Price the gradients that pass through the samples, which are made together, and the weight's.

    The first take one product, and three times the samples: input, offset and mask. The second takes the other product,
    and the samples anew. All of them are what torchvision's operator counts.
    """
    through, own = any(map(needs_grad, sampled)), needs_grad(weight)
    macs = out.numel() * prod(weight.shape[1:]) * (through + own)
    return Cost(macs, sample * _samples(out, x, weight) * (3 * through + own))


def _weighed(
    out: Tensor, points: int, x: Tensor | None = None, weights: Tensor | None = None, places: Tensor | None = None
) -> Cost:
    """Price the samples of each output; given ``x``, of the gradients of ``x``, of the weights, and of the places."""
    samples = out.numel() * points
    if x is None:
        return Cost(samples, BILINEAR * samples, out.numel())
    made = needs_grad(x) + needs_grad(weights) + 2 * needs_grad(places)
    return Cost(samples * made, BILINEAR * samples * made)


def _taps(x: Tensor, offset: Tensor, mask: Tensor, args: tuple[int, ...]) -> int:
    groups = args[8]
    fits = mask.dim() == 4 and mask.shape[-1] % groups == 0 and offset.shape[-1] == 2 * mask.shape[-1]
    require(fits and x.dim() == 4, "offset and mask of shape (n, h, w, groups x taps)", mask)
    return int(mask.shape[-1]) // groups


def _kernel_taps(x: Tensor, mixed: Tensor, taps: int, args: tuple[int, ...]) -> int:
    taps -= bool(args[10])
    fits = x.dim() == 4 and mixed.shape[-1] >= 3 * taps * args[6]
    require(fits, "offset and mask of shape (n, h, w, 3 x groups x taps)", mixed)
    return taps


def _mixed_points(value: Tensor, mixed: Tensor) -> int:
    require(value.dim() == 4 and mixed.shape[-1] % 3 == 0, "places and weights of shape (..., 3 x points)", mixed)
    points = mixed.numel() // (mixed.shape[0] * mixed.shape[1] * value.shape[2] or 1)
    return int(points) // 3


def _check(out: Tensor, x: Tensor, offset: Tensor, weight: Tensor) -> None:
    fits = x.dim() == weight.dim() == offset.dim() == out.dim() == 4 and out.shape[1] == weight.shape[0]
    taps = 2 * prod(weight.shape[2:])
    require(fits and offset.shape[1] % taps == 0, "offsets of two numbers for each tap of a 4-D weight", weight)


def _check_attention(out: Tensor, value: Tensor, places: Tensor, weights: Tensor) -> None:
    fits = value.dim() == 4 and weights.dim() == 5 and places.shape == (*weights.shape, 2)
    require(fits and out.shape[1] == weights.shape[1], "places of shape (b, queries, heads, levels, points, 2)", places)


def _has(bias: Tensor | None) -> bool:
    return bias is not None and bias.numel() > 0
