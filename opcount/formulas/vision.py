"""torchvision's operators: products of deformable convolutions, and samples of regions.

A bilinear sample takes four operations, as upsampling and grid sampling do; averaging samples, one for each. How many
samples or cells a region has can depend on its size: it is read where the numbers can be read, and assumed to be two
by two under meta and fake tensors. Non-maximum suppression is declared free: it compares boxes until the data end it.
"""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.formulas._operands import host_values
from opcount.formulas.rules import free
from opcount.formulas.sizes import register
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

torchvision = OperatorNames("torchvision")

BILINEAR = 4
SAMPLE = BILINEAR + 1
ASSUMED_SAMPLES = 4


@formula(torchvision.roi_align)
def roi_align(out: Tensor, _x: Tensor, rois: Tensor, scale: float, h: int, w: int, ratio: int, /, *_: Any) -> Cost:
    """The mean of ``ratio x ratio`` bilinear samples for each output element: five operations for each sample.

    Where ``ratio`` is not given, a sample for each cell that a bin covers, rounded up.
    """
    return _regions(out, rois, (scale, h, w), ratio)


@formula(torchvision._roi_align_backward)
def roi_align_backward(_out: Tensor, grad: Tensor, rois: Tensor, *args: Any) -> Cost:
    """Each sample's gradient is spread over four cells: five operations for each sample."""
    return _regions(grad, rois, args[:3], args[7])


@formula(torchvision.ps_roi_align)
def ps_roi_align(out: tuple[Tensor, Tensor], _x: Tensor, rois: Tensor, scale: float, /, *args: int) -> Cost:
    """As `roi_align`, each bin from channels of its own: five operations for each sample."""
    return _regions(out[0], rois, (scale, args[0], args[1]), args[2])


@formula(torchvision._ps_roi_align_backward)
def ps_roi_align_backward(_out: Tensor, grad: Tensor, rois: Tensor, _map: Tensor, /, *args: Any) -> Cost:
    """Each sample's gradient is spread over four cells: five operations for each sample."""
    return _regions(grad, rois, args[:3], args[3])


@formula(torchvision.roi_pool, torchvision.ps_roi_pool)
def roi_pool(out: tuple[Tensor, Tensor], _x: Tensor, rois: Tensor, scale: float, h: int, w: int, /) -> Cost:
    """The largest, or the mean, of the cells of each bin: one operation for each cell."""
    return Cost(0, _samples(out[0], rois, (scale, h, w)), 0)


@formula(torchvision._roi_pool_backward)
def roi_pool_backward(_out: Tensor, grad: Tensor, /, *_: Any) -> Cost:
    """The gradient of each bin is added to its largest cell."""
    return Cost(0, grad.numel(), 0)


@formula(torchvision._ps_roi_pool_backward)
def ps_roi_pool_backward(_out: Tensor, grad: Tensor, rois: Tensor, _map: Tensor, /, *args: Any) -> Cost:
    """The gradient of each bin is added to each of its cells."""
    return Cost(0, _samples(grad, rois, args[:3]), 0)


@formula(torchvision.deform_conv2d)
def deform_conv2d(
    out: Tensor, _x: Tensor, weight: Tensor, _offset: Tensor, _mask: Tensor, bias: Tensor, /, *args: Any
) -> Cost:
    """A convolution over bilinear samples, each times its mask: its products, and five operations for each sample."""
    outputs = out.numel()
    arith = _deformed(out, weight, args) + (outputs if bias is not None and bias.numel() else 0)
    return Cost(outputs * prod(weight.shape[1:]), arith, outputs)


@formula(torchvision._deform_conv2d_backward)
def deform_conv2d_backward(_out: Any, grad: Tensor, _x: Tensor, weight: Tensor, /, *args: Any) -> Cost:
    """The products of the forward for the samples, and for the weight; samples again, and their three gradients."""
    bias = args[2]
    arith = 4 * _deformed(grad, weight, args[3:]) + (grad.numel() if bias is not None and bias.numel() else 0)
    return Cost(2 * grad.numel() * prod(weight.shape[1:]), arith, 0)


register(FREE, free, [torchvision.nms, torchvision.qnms])


def _deformed(out: Tensor, weight: Tensor, args: Sequence[int]) -> int:
    """Count the operations of the samples; args: stride, pad, dilation (two each), groups, offset groups, use_mask."""
    samples = out.numel() // out.shape[1] * weight.shape[1] * args[6] * prod(weight.shape[2:])
    return samples * (BILINEAR + bool(args[8]))


def _regions(out: Tensor, rois: Tensor, grid: Sequence[Any], ratio: int) -> Cost:
    samples = out.numel() * ratio * ratio if ratio > 0 else _samples(out, rois, grid)
    return Cost(0, SAMPLE * samples, 0)


def _samples(out: Tensor, rois: Tensor, grid: Sequence[Any]) -> int:
    """Count one sample for each cell that a bin covers, rounded up, in all regions and channels."""
    scale, h, w = grid
    boxes = host_values(rois)
    if boxes is None:
        return out.numel() * ASSUMED_SAMPLES
    cells: int = sum(
        max(1, ceil((bottom - top) * scale / h)) * max(1, ceil((right - left) * scale / w))
        for _, left, top, right, bottom in boxes
    )
    return cells * prod(out.shape[1:])
