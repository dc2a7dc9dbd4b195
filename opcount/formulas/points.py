"""Point clouds: distances of all pairs, sums over neighbours that are given, products of sparse convolutions.

A squared distance in ``d`` dimensions takes ``2 d`` operations, as a pairwise distance does elsewhere, and choosing
among ``n`` candidates one comparison for each, as `topk` does: a heap that reorders itself when the data make it is not
counted. Gathering is free; its gradient adds up. What stops early when the data allow it (ball queries, points in
boxes, pooling of points into regions) is not counted here, and named.

Sources: the classes of mmcv 1.3 to 2.2 (``mmcv/ops``) and, for sparse convolutions, of spconv 1.2 to 2.3
(``spconv/pytorch/functional.py``); mmdetection3d 0.x, OpenPCDet and Pointnet2_PyTorch have most under the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.formulas._operands import count_where, host_ints, needs_grad, require
from opcount.formulas.reduction import unique
from opcount.formulas.rules import free
from opcount.formulas.sizes import register
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd = OperatorNames("autograd")


@formula(autograd.KNN)
def nearest_neighbors(
    _out: Tensor, k: int, points: Tensor, centers: Tensor | None = None, transposed: bool = False, /
) -> Cost:
    """The ``k`` points nearest to each center: a distance and a comparison for each pair."""
    centers = points if centers is None else centers
    require(isinstance(k, int) and points.dim() == centers.dim() == 3, "k, and points of shape (b, n, 3)", points)
    d, along = (1, 2) if transposed else (2, 1)
    return Cost(0, points.shape[0] * points.shape[along] * centers.shape[along] * (2 * points.shape[d] + 1))


@formula(autograd.ThreeNN)
def three_nearest(out: tuple[Tensor, Tensor], target: Tensor, source: Tensor, /) -> Cost:
    """The three sources nearest to each target: a distance and a comparison for each pair, and three square roots."""
    require(target.dim() == source.dim() == 3, "points of shape (b, n, 3)", target)
    pairs = target.shape[0] * target.shape[1] * source.shape[1]
    return Cost(0, pairs * (2 * target.shape[2] + 1) + out[0].numel())


@formula(autograd.FurthestPointSampling, autograd.FarthestPointSampling)
def furthest_points(out: Tensor, points: Tensor, /, *_: object) -> Cost:
    """Again and again the point furthest from those chosen: a distance and two comparisons for each point each time.

    The first point is given.
    """
    require(out.dim() == 2 and points.dim() == 3, "points of shape (b, n, 3)", points)
    rounds = out.shape[0] * max(out.shape[1] - 1, 0)
    return Cost(0, rounds * points.shape[1] * (2 * points.shape[2] + 2))


@formula(autograd.FurthestPointSamplingWithDist)
def furthest_points_by_distance(out: Tensor, distances: Tensor, /, *_: object) -> Cost:
    """As `furthest_points`, with the distances given: two comparisons for each point each time."""
    return Cost(0, 2 * out.shape[0] * max(out.shape[1] - 1, 0) * distances.shape[1])


@formula(autograd.ThreeInterpolate)
def three_interpolate(out: Tensor, /, *_: object) -> Cost:
    """``out[c, p] = sum(weight[p, i] * x[c, index[p, i]] for 3 neighbours i)``: three for each output element."""
    return Cost(0, 3 * out.numel())


register(FREE, free, [autograd.GroupingOperation, autograd.GatherPoints, autograd.GatherOperation])


@formula(autograd.GroupingOperationBackward, autograd.GatherPointsBackward, autograd.GatherOperationBackward)
def gather_backward(out: Tensor, /, *_: object) -> Cost:
    """``dx[index[p]] += dy[p]``: one addition for each gradient."""
    return Cost(0, out.numel())


@formula(autograd.ChamferDistanceFunction)
def chamfer_distance(_out: object, a: Tensor, b: Tensor, /) -> Cost:
    """The nearest of the other set for each point of both: a distance and a comparison for each pair, both ways."""
    require(a.dim() == b.dim() == 3, "points of shape (b, n, d)", a)
    return Cost(0, 2 * a.shape[0] * a.shape[1] * b.shape[1] * (2 * a.shape[2] + 1))


@formula(autograd.ChamferDistanceFunctionBackward)
def chamfer_distance_backward(_out: object, a: Tensor, b: Tensor, /) -> Cost:
    """``g = 2 * dy * (a - b)`` for each coordinate of a nearest pair, added to one, taken from the other: five."""
    return Cost(0, 5 * (a.numel() + b.numel()))


@formula(autograd.AssignScoreWithK)
def assign_scores(
    out: Tensor, scores: Tensor, points: Tensor, _centers: Tensor, _index: Tensor, /, aggregate: str = "sum"
) -> Cost:
    """``out[o, n, k] = sum(score[n, k, m] * (points[j, m, o] - centers[i, m, o]) for m)``, ``i, j`` by the index.

    A MAC and a subtraction for each ``m``. PAConv (arXiv 2103.14635).
    """
    require(scores.dim() == points.dim() == 4 and aggregate == "sum", "scores of shape (b, n, k, m), to be summed", out)
    products = out.numel() * scores.shape[-1]
    return Cost(products, products, out.numel())


@formula(autograd.AssignScoreWithKBackward)
def assign_scores_backward(
    out: Tensor, scores: Tensor, points: Tensor, centers: Tensor, _index: Tensor, /, *_: object
) -> Cost:
    """As forward for the scores; ``score * dy`` for the points, and for the centers."""
    products = out.numel() * scores.shape[-1]
    made = needs_grad(scores) + needs_grad(points) + needs_grad(centers)
    return Cost(products * made, products * needs_grad(scores))


@formula(autograd._Voxelization)
def voxelize(_out: object, points: Tensor, /, *_: object) -> Cost:
    """``floor((x - start) / size)``, within bounds: five operations for each of three coordinates."""
    require(points.dim() == 2, "points of shape (n, features)", points)
    return Cost(0, 5 * 3 * points.shape[0])


@formula(autograd._DynamicScatter)
def scatter_to_voxels(out: tuple[Tensor, Tensor], x: Tensor, cells: Tensor, kind: str = "max", /) -> Cost:
    """The cells in use, as `unique` finds them; then one operation for each feature, and a division for each mean."""
    return unique(cells) + Cost(0, x.numel() + (out[0].numel() if kind == "mean" else 0))


@formula(autograd._DynamicScatterBackward)
def scatter_to_voxels_backward(_out: object, x: Tensor, /, *_: object) -> Cost:
    """Each feature takes its cell's gradient, divided or compared: one operation for each."""
    return Cost(0, x.numel())


@formula(autograd.SparseConvFunction, autograd.SparseInverseConvFunction)
def sparse_convolution(
    out: Tensor, x: Tensor, _weight: Tensor, _pairs: Tensor, counts: Tensor, /, *args: object
) -> Cost:
    """``out[o] += x[i] @ weight[tap]`` for each pair of an input and an output at a tap: ``c_in x c_out`` MACs a pair.

    How many pairs each tap has is read. A bias, which spconv 2 takes, is one for each output.
    """
    return _sparse(out, x, sum(_read(counts)), args)


@formula(autograd.SubMConvFunction)
def submanifold_convolution(
    out: Tensor, x: Tensor, _weight: Tensor, _pairs: Tensor, counts: Tensor, /, *args: object
) -> Cost:
    """As `sparse_convolution`; the center meets every input, and the taps behind it mirror those before.

    spconv 2 counts the taps before the center only, spconv 1 and mmcv all of them.
    """
    each = _read(counts)
    return _sparse(out, x, x.shape[0] + 2 * sum(each[: len(each) // 2]), args)


@formula(autograd.SparseImplicitGemmFunction)
def implicit_gemm(out: Tensor, x: Tensor, _weight: Tensor, pairs: Tensor, /, *args: object) -> Cost:
    """As `sparse_convolution`: of ``(taps, outputs)`` indices those that are none are negative."""
    return _sparse(out, x, count_where(pairs, lambda index: index >= 0), args)


@formula(autograd.SparseMaxPoolFunction)
def sparse_pool(_out: Tensor, x: Tensor, _pairs: Tensor, counts: Tensor, /, *_: object) -> Cost:
    """The largest of the inputs of each output: one comparison for each pair and channel."""
    return Cost(0, sum(_read(counts)) * x.shape[1])


def _sparse(out: Tensor, x: Tensor, pairs: int, args: tuple[object, ...]) -> Cost:
    require(x.dim() == out.dim() == 2, "features of shape (n, channels)", x)
    bias = any(isinstance(arg, torch.Tensor) and arg.is_floating_point() for arg in args)
    return Cost(pairs * x.shape[1] * out.shape[1], out.numel() * bias, out.numel())


def _read(counts: Tensor) -> list[int]:
    """Return the number of pairs of each tap."""
    values = host_ints(counts)
    require(values is not None and counts.dim() == 1, "the number of pairs of each tap, readable", counts)
    return values or []
