"""Point clouds and sparse convolutions, against loops that count what they do."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from opcount.coverage import FREE
from opcount.errors import FormulaError
from opcount.formulas.reduction import unique
from opcount.registry import BUILTIN
from tests.formulas.functions import backward, count, forward, stand_in, wanting
from tests.formulas.oracle import Meter, Number


def distance(meter, a, b):
    """Return the squared distance: a difference for each coordinate, and a product that is added up."""
    total = Number(0.0, meter)
    for left, right in zip(a, b, strict=True):
        difference = left - right
        total = total + difference * difference
    meter.sums -= len(a)  # the product and its sum are one step of the norm
    return total


def clouds(n, m, d=3):
    return torch.rand(2, n, d), torch.rand(2, m, d)


@pytest.mark.parametrize("transposed", [False, True])
def test_neighbours_count_a_distance_and_a_comparison_for_each_pair(transposed):
    points, centers = clouds(5, 3)
    meter = Meter()
    read, from_ = meter.read(points), meter.read(centers)
    for b, i, j in product(range(2), range(3), range(5)):
        distance(meter, from_[b, i], read[b, j]).larger(Number(0.0, meter))
    if transposed:
        points, centers = points.transpose(1, 2), centers.transpose(1, 2)
    assert forward("KNN", None, 2, points, centers, transposed) == (0, meter.operations, 0)


def test_points_are_their_own_centers_when_none_are_given():
    points, _ = clouds(5, 1)
    assert forward("KNN", None, 2, points) == forward("KNN", None, 2, points, points, False)


def test_three_nearest_count_three_roots_more():
    target, source = clouds(4, 6)
    found = torch.empty(2, 4, 3)
    pairs = forward("KNN", None, 3, source, target).arith
    assert forward("ThreeNN", (found, found), target, source) == (0, pairs + found.numel(), 0)


def test_sampling_by_distance_looks_at_all_points_each_time():
    points, _ = clouds(6, 1)
    meter, chosen = Meter(), 3
    read = meter.read(points)
    for b in range(2):
        nearest = [Number(1e9, meter)] * 6
        last, best = 0, None
        for _ in range(chosen - 1):
            best = Number(-1.0, meter)
            for i in range(6):
                found = distance(meter, read[b, i], read[b, last])
                nearest[i] = found if found.larger(nearest[i]) is nearest[i] else nearest[i]
                best = best.larger(nearest[i])
    out = torch.empty(2, chosen)
    assert forward("FurthestPointSampling", out, points, chosen) == (0, meter.operations, 0)
    by_distance = forward("FurthestPointSamplingWithDist", out, torch.rand(2, 6, 6), chosen)
    assert by_distance == (0, meter.others, 0)


def test_interpolation_counts_three_for_each_output_and_each_gradient():
    x, index, weight = torch.rand(2, 4, 5, requires_grad=True), torch.zeros(2, 6, 3).int(), torch.rand(2, 6, 3)
    function = stand_in("ThreeInterpolate", lambda x, index, _: (*x.shape[:2], index.shape[1]), {0})
    by = count(function, x, index, weight).by_operator()
    assert by["autograd.ThreeInterpolate"].arith == by["autograd.ThreeInterpolateBackward"].arith == 3 * 2 * 4 * 6


@pytest.mark.parametrize("name", ["GroupingOperation", "GatherPoints"])
def test_gathering_is_free_and_its_gradient_adds_up(name):
    assert BUILTIN.find([f"autograd.{name}"])[0].family == FREE
    x, index = torch.rand(2, 4, 5, requires_grad=True), torch.zeros(2, 6).int()
    function = stand_in(name, lambda x, index: (*x.shape[:2], index.shape[1]), {0})
    counter = count(function, x, index)
    assert counter.by_operator()[f"autograd.{name}Backward"].arith == 2 * 4 * 6


def test_the_distance_of_two_clouds_looks_both_ways():
    a, b = clouds(4, 5, d=2)
    meter = Meter()
    left, right = meter.read(a), meter.read(b)
    for one, other in ((left, right), (right, left)):
        for n in range(2):
            for p, q in product(one[n], other[n]):
                distance(meter, p, q).larger(Number(0.0, meter))
    assert forward("ChamferDistanceFunction", None, a, b) == (0, meter.operations, 0)
    assert backward("ChamferDistanceFunction", None, a, b) == (0, 5 * (a.numel() + b.numel()), 0)


def test_scores_are_assigned_by_a_mac_and_a_difference():
    scores, points, centers = wanting(torch.rand(1, 3, 2, 4), torch.rand(1, 5, 4, 6), torch.rand(1, 5, 4, 6))
    index = torch.randint(0, 5, (1, 3, 2))
    meter = Meter()
    s, p, c = (meter.read(t) for t in (scores, points, centers))
    out = torch.empty(1, 6, 3, 2)
    for o, n, k in product(range(6), range(3), range(2)):
        total = Number(0.0, meter)
        for m in range(4):
            total = total + s[0, n, k, m] * (p[0, index[0, n, k], m, o] - c[0, index[0, n, 0], m, o])
    args = (scores, points, centers, index, "sum")
    macs = meter.products
    assert forward("AssignScoreWithK", out, *args) == (macs, meter.sums - macs, out.numel())
    assert backward("AssignScoreWithK", out, *args) == (3 * macs, macs, 0)


def test_voxels_are_found_by_five_for_each_coordinate():
    points = torch.rand(7, 4)
    low, size, cells = 0.0, 0.25, 4
    meter = Meter()
    for x in meter.read(points[:, :3]).flat:
        place = ((x - low) / size).apply(int)
        place.larger(Number(0, meter)), place.larger(Number(cells, meter))
    assert forward("_Voxelization", None, points, (size,) * 3, (0,) * 6, 5, 10, True) == (0, meter.operations, 0)


@pytest.mark.parametrize(("kind", "more"), [("max", 0), ("mean", 3 * 4), ("sum", 0)])
def test_features_are_reduced_to_their_voxels(kind, more):
    x, cells = torch.rand(7, 4), torch.randint(0, 2, (7, 3))
    out = (torch.empty(3, 4), torch.empty(3, 3))
    expected = unique(cells).arith + 7 * 4 + more
    assert forward("_DynamicScatter", out, x, cells, kind) == (0, expected, 0)


def convolved(sites, kernel, c_in, c_out, submanifold):
    """Pair inputs and outputs at each tap along a line; return pairs for each tap, outputs and the products."""
    meter, reach = Meter(), kernel // 2
    outputs = sites if submanifold else sorted({s - t for s in sites for t in range(-reach, reach + 1)})
    pairs = [[(s, o) for s in sites for o in outputs if s - o == t] for t in range(-reach, reach + 1)]
    x, weight = meter.read(torch.rand(c_in)), meter.read(torch.rand(c_in, c_out))
    for tap in pairs:
        for _ in tap:
            for o in range(c_out):
                total = Number(0.0, meter)
                for i in range(c_in):
                    total = total + x[i] * weight[i, o]
    return [len(tap) for tap in pairs], len(outputs), meter.products


SITES = [0, 1, 4, 5, 6, 9]


@pytest.mark.parametrize("name", ["SparseConvFunction", "SparseInverseConvFunction"])
def test_a_sparse_convolution_counts_its_pairs(name):
    counts, outputs, macs = convolved(SITES, 3, 2, 4, submanifold=False)
    x, weight, out = torch.rand(len(SITES), 2), torch.rand(3, 2, 4), torch.empty(outputs, 4)
    pairs, numbers = torch.zeros(3, 2, len(SITES)).int(), torch.tensor(counts, dtype=torch.int32)
    assert forward(name, out, x, weight, pairs, numbers, outputs) == (macs, 0, out.numel())
    bias = torch.rand(4)
    assert forward(name, out, x, weight, pairs, numbers, outputs, 0, None, bias) == (macs, out.numel(), out.numel())
    with pytest.raises(FormulaError):
        forward(name, out, x, weight, pairs, numbers.to("meta"), outputs)


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_submanifold_convolution_counts_the_mirrored_taps(mirrored):
    counts, outputs, macs = convolved(SITES, 5, 2, 4, submanifold=True)
    if not mirrored:  # spconv 2 leaves the taps behind the center out, and the center
        counts = [*counts[:2], 0, 0, 0]
    x, weight, out = torch.rand(len(SITES), 2), torch.rand(5, 2, 4), torch.empty(outputs, 4)
    args = (x, weight, torch.zeros(2, 5, len(SITES)).int(), torch.tensor(counts), outputs)
    assert forward("SubMConvFunction", out, *args) == (macs, 0, out.numel())


def test_an_implicit_product_counts_the_indices_that_are():
    x, out = torch.rand(6, 2), torch.empty(5, 4)
    pairs = torch.tensor([[0, 1, -1, -1, 2], [3, -1, -1, 4, 5]])
    assert forward("SparseImplicitGemmFunction", out, x, torch.rand(4, 2, 2), pairs, pairs) == (6 * 2 * 4, 0, 20)


def test_a_sparse_pool_compares_each_pair():
    counts = torch.tensor([2, 3])
    assert forward("SparseMaxPoolFunction", None, torch.rand(4, 7), torch.zeros(2, 2, 4), counts, 5) == (0, 5 * 7, 0)


def test_a_sparse_layer_is_counted_forward_and_backward():
    counts, outputs, macs = convolved(SITES, 3, 2, 4, submanifold=False)
    x, weight = wanting(torch.rand(len(SITES), 2), torch.rand(3, 2, 4))
    function = stand_in("SparseConvFunction", lambda *_: (outputs, 4), {0, 1})
    counter = count(function, x, weight, torch.zeros(3, 2, 6).int(), torch.tensor(counts), outputs)
    assert counter.by_operator()["autograd.SparseConvFunctionBackward"].macs == 2 * macs
    assert counter.macs == 3 * macs
