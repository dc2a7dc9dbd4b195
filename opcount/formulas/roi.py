"""Regions of interest in the kernels of mmcv, mmdetection and detectron2: the samples of each bin, as in torchvision.

A bilinear sample takes four operations and averaging it one more, whichever library takes it (see `vision`); the
coordinates are neglected. Where a region's size decides how many samples it has, it is read where numbers can be read,
and assumed to be two by two elsewhere. Non-maximum suppression is free: it compares boxes until the data end it.

Sources: the classes of mmcv 1.0 to 2.2 (``mmcv/ops``), which mmdetection 1 (``mmdet/ops``), maskrcnn-benchmark and
detectron2 (``detectron2/layers``) have under the names that begin with an underscore; the arguments of ``apply`` agree
in what is read here.
"""

from __future__ import annotations

from math import ceil, floor, prod
from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.formulas import vision
from opcount.formulas._operands import host_values, needs_grad, require
from opcount.formulas.rules import free
from opcount.formulas.sizes import register
from opcount.formulas.vision import ASSUMED_SAMPLES, BILINEAR, SAMPLE
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd, detectron2 = OperatorNames("autograd"), OperatorNames("detectron2")


@formula(autograd.RoIAlignFunction, autograd._ROIAlign)
def roi_align(
    out: Tensor, x: Tensor, rois: Tensor, _size: Any, scale: float = 1.0, ratio: int = 0, /, *_: object
) -> Cost:
    """The mean, or the largest, of ``ratio x ratio`` bilinear samples of each bin: five operations for each sample."""
    _check(out, rois, 5, scale)
    return vision.roi_align(out, x, rois, scale, *out.shape[-2:], ratio)


@formula(autograd.RoIAlignRotatedFunction, autograd._ROIAlignRotated)
def roi_align_rotated(
    out: Tensor, _x: Tensor, rois: Tensor, _size: Any, scale: float, ratio: int = 0, /, *_: object
) -> Cost:
    """The mean of bilinear samples of each bin of a turned region: five operations for each sample.

    Turning the coordinates is done once a sample for all channels, and neglected.
    """
    _check(out, rois, 6, scale)
    return Cost(0, SAMPLE * _rotated(out, rois, scale, ratio))


@formula(detectron2.roi_align_rotated_forward)
def roi_align_rotated_operator(
    out: Tensor, _x: Tensor, rois: Tensor, scale: float, _h: int, _w: int, ratio: int, /, *_: object
) -> Cost:
    """As `roi_align_rotated`: five operations for each sample."""
    return Cost(0, SAMPLE * _rotated(out, rois, scale, ratio))


@formula(detectron2.roi_align_rotated_backward)
def roi_align_rotated_backward(_out: Tensor, grad: Tensor, rois: Tensor, scale: float, /, *args: int) -> Cost:
    """Each sample's gradient is spread over four cells: five operations for each sample."""
    return Cost(0, SAMPLE * _rotated(grad, rois, scale, args[-1]))


_ORIENTED_SAMPLE = 2 * BILINEAR + 3


@formula(autograd.RiRoIAlignRotatedFunction)
def ri_roi_align_rotated(
    out: Tensor, _x: Tensor, rois: Tensor, _size: Any, scale: float, ratio: int = 0, /, *_: object
) -> Cost:
    """The mean of ``r * sample(orientation) + l * sample(next orientation)``: 11 operations for each sample.

    Two bilinear samples of four, two products with their shares of the turn, and one to average. ReDet
    (arXiv 2103.07733).
    """
    _check(out, rois, 6, scale)
    return Cost(0, _ORIENTED_SAMPLE * _rotated(out, rois, scale, ratio))


@formula(autograd.RoIPoolFunction, autograd._ROIPool)
def roi_pool(out: Tensor, x: Tensor, rois: Tensor, _size: Any, scale: float = 1.0, /) -> Cost:
    """The largest of the cells of each bin: one operation for each cell."""
    _check(out, rois, 5, scale)
    return vision.roi_pool((out, out), x, rois, scale, *out.shape[-2:])


@formula(autograd.RoIPoolFunctionBackward, autograd._ROIPoolBackward)
def roi_pool_backward(out: Tensor, /, *_: object) -> Cost:
    """The gradient of each bin is added to its largest cell."""
    return Cost(0, out.numel())


@formula(autograd.PrRoIPoolFunction)
def prroi_pool(out: Tensor, _x: Tensor, rois: Tensor, _size: Any, scale: float = 1.0, /, *_: object) -> Cost:
    """``sum(weight[q] * x[q])``, the integral of the interpolated map over each bin: four for each cell that it meets.

    Each cell's four corners have weights of their own; the weights are neglected. IoU-Net (arXiv 1807.11590).
    """
    _check(out, rois, 5, scale)
    return Cost(0, BILINEAR * _met_cells(out, rois, scale))


@formula(autograd.PrRoIPoolFunctionBackward)
def prroi_pool_backward(out: Tensor, _x: Tensor, rois: Tensor, _size: Any, scale: float = 1.0, /, *_: object) -> Cost:
    """``dx[q] += weight[q] * dy[p]``: as forward; not counted is a gradient of the regions, which few ask for."""
    require(not needs_grad(rois), "regions that need no gradient", rois)
    return Cost(0, BILINEAR * _met_cells(out, rois, scale))


@formula(autograd.DeformRoIPoolFunction)
def deform_roi_pool(
    out: Tensor, x: Tensor, rois: Tensor, _offset: Any, _size: Any, scale: float = 1.0, ratio: int = 0, /, *_: object
) -> Cost:
    """The mean of bilinear samples of each bin, which is shifted as a whole: five operations for each sample."""
    _check(out, rois, 5, scale)
    return vision.roi_align(out, x, rois, scale, *out.shape[-2:], ratio)


@formula(autograd.DeformRoIPoolFunctionBackward)
def deform_roi_pool_backward(out: Tensor, x: Tensor, rois: Tensor, offset: Any, /, *args: Any) -> Cost:
    """Each sample's gradient is spread over four cells; the shift's has two axes, each of five for each sample."""
    return deform_roi_pool(out, x, rois, offset, *args) * (needs_grad(x) + 2 * needs_grad(offset))


@formula(autograd.DeformRoIPoolingFunction)
def deform_psroi_pool(out: Tensor, _x: Tensor, rois: Tensor, _offset: Any, scale: float, /, *args: Any) -> Cost:
    """The mean of ``sample_per_part ** 2`` bilinear samples of each bin: five operations for each sample.

    Each bin reads channels of its own. Samples outside of the map are counted: the data decide about them.
    Deformable Convolutional Networks (arXiv 1703.06211), as in mmdetection 1.
    """
    _check(out, rois, 5, scale)
    per_part = args[5] if len(args) > 5 else 4
    return Cost(0, SAMPLE * per_part**2 * out.numel())


@formula(autograd.DeformRoIPoolingFunctionBackward)
def deform_psroi_pool_backward(out: Tensor, x: Tensor, rois: Tensor, offset: Any, /, *args: Any) -> Cost:
    """Each sample's gradient is spread over four cells; the shift's has two axes, each of five for each sample."""
    shifted = needs_grad(offset) and not args[3]
    return deform_psroi_pool(out, x, rois, offset, *args) * (needs_grad(x) + 2 * shifted)


@formula(autograd.BezierAlignFunction)
def bezier_align(
    out: Tensor, _x: Tensor, beziers: Tensor, _size: Any, _scale: float = 1.0, ratio: int = 0, /, *_: object
) -> Cost:
    """The mean of ``ratio x ratio`` bilinear samples of each bin between two curves: five operations for each sample.

    Without a ratio each curve's length decides, and the call is not counted. ABCNet (arXiv 2002.10200).
    """
    require(ratio > 0 and beziers.shape[-1] == 17, "a sampling ratio, and curves of 8 points", ratio)
    return Cost(0, SAMPLE * ratio * ratio * out.numel())


@formula(autograd.BorderAlignFunction)
def border_align(out: Tensor, _x: Tensor, _boxes: Tensor, pool: int, /) -> Cost:
    """The largest of ``pool + 1`` bilinear samples along each border: four operations each, and ``pool`` comparisons.

    BorderDet (arXiv 2007.11056).
    """
    return Cost(0, out.numel() * (BILINEAR * (pool + 1) + pool))


@formula(autograd.BorderAlignFunctionBackward)
def border_align_backward(out: Tensor, /, *_: object) -> Cost:
    """The gradient of each border is spread over the four cells of its largest sample."""
    return Cost(0, BILINEAR * out.numel())


@formula(autograd.RotatedFeatureAlignFunction)
def rotated_feature_align(out: Tensor, _x: Tensor, _boxes: Tensor, _scale: float, points: int, /) -> Cost:
    """``x`` and bilinear samples of it at the centre, or the centre and corners, of a box: five for each sample.

    R3Det (arXiv 1908.05612).
    """
    return Cost(0, SAMPLE * points * out.numel())


register(FREE, free, [autograd.NMSop, autograd.SoftNMSop, autograd.NMSFunction, detectron2.nms_rotated])


def _check(out: Tensor, rois: Tensor, columns: int, scale: object) -> None:
    """Refuse what is not ``(features, rois, size, scale)``."""
    require(out.dim() == 4, "pooled regions of shape (n, c, h, w)", out)
    require(rois.dim() == 2 and rois.shape[1] == columns, f"regions of {columns} numbers", rois)
    require(isinstance(scale, (int, float)), "a number as the scale", scale)


def _rotated(out: Tensor, rois: Tensor, scale: float, ratio: int) -> int:
    """Count the samples of regions ``(index, x, y, width, height, angle)``."""
    if ratio > 0:
        return out.numel() * ratio * ratio
    boxes = host_values(rois)
    if boxes is None:
        return out.numel() * ASSUMED_SAMPLES
    h, w = out.shape[-2:]
    cells: int = sum(
        max(1, ceil(height * scale / h)) * max(1, ceil(width * scale / w)) for _, _, _, width, height, _ in boxes
    )
    return cells * prod(out.shape[1:])


def _met_cells(out: Tensor, rois: Tensor, scale: float) -> int:
    """Count the cells that the bins of regions ``(index, left, top, right, bottom)`` meet, on average a bin."""
    boxes = host_values(rois)
    if boxes is None:
        return out.numel() * ASSUMED_SAMPLES
    h, w = out.shape[-2:]
    met: int = sum(
        _along(top * scale, bottom * scale, h) * _along(left * scale, right * scale, w)
        for _, left, top, right, bottom in boxes
    )
    return met * out.shape[1]


def _along(start: float, end: float, bins: int) -> int:
    """Count the cells that the bins of one dimension meet, one bin after the other."""
    step = max(end - start, 0.0) / bins
    return sum(ceil(start + step * (i + 1)) - floor(start + step * i) for i in range(bins)) if step else 0
