"""Resampling, against the neighbours that each output element blends."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter
from opcount.cost import Cost
from tests.formulas.oracle import Meter, einsum, price, price_of

aten = torch.ops.aten


def arith(function, *args, **kwargs):
    with OpCounter(strict=True) as counter:
        function(*args, **kwargs)
    return sum(total.arith for total in counter.by_operator().values())


def neighbours(mode, rank):
    """Return how many inputs one output blends: those whose gradient of that output is not zero."""
    x = torch.randn(1, 1, *[8] * rank, requires_grad=True)
    options = {} if mode.startswith("nearest") else {"align_corners": False}
    out = F.interpolate(x, scale_factor=1.6, mode=mode, recompute_scale_factor=True, **options)
    middle = out[(0, 0, *[n // 2 for n in out.shape[2:]])]
    return int(torch.autograd.grad(middle, x)[0].count_nonzero())


MODES = [("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 1), ("nearest-exact", 2)]
MODES += [("nearest-exact", 3), ("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2)]


@pytest.mark.parametrize(("mode", "rank"), MODES)
@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_an_output_counts_the_inputs_that_it_blends(mode, rank, grad):
    x, blended = torch.randn(2, 3, *[4] * rank), neighbours(mode, rank)
    with grad():
        assert arith(F.interpolate, x, scale_factor=2, mode=mode) == 2 * 3 * 8**rank * blended


@pytest.mark.parametrize(("mode", "rank"), MODES)
def test_a_gradient_goes_back_to_the_inputs_that_it_came_from(mode, rank):
    x = torch.randn(2, 3, *[4] * rank, requires_grad=True)
    out = F.interpolate(x, scale_factor=2, mode=mode)
    assert arith(out.backward, torch.ones_like(out)) == out.numel() * neighbours(mode, rank)


@pytest.mark.parametrize(("mode", "radius"), [("bilinear", 1), ("bicubic", 2)])
@pytest.mark.parametrize(("h_in", "w_in", "h", "w"), [(8, 8, 4, 2), (4, 4, 8, 8), (6, 4, 3, 8)])
def test_antialiasing_filters_one_dimension_after_the_other(mode, radius, h_in, w_in, h, w):
    x = torch.randn(2, 3, h_in, w_in, requires_grad=True)
    out = F.interpolate(x, size=(h, w), mode=mode, antialias=True)
    width = h_in * w * 2 * radius * max(1, w_in / w)
    height = h * w * 2 * radius * max(1, h_in / h)
    expected = 2 * 3 * (width + height)
    assert arith(F.interpolate, x.detach(), size=(h, w), mode=mode, antialias=True) == expected
    assert arith(out.backward, torch.ones_like(out)) == expected


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_a_grid_sampler_counts_four_for_each_output_in_every_mode(mode):
    x, grid = torch.randn(2, 3, 5, 5), torch.rand(2, 4, 6, 2)
    assert arith(F.grid_sample, x, grid, mode=mode, align_corners=False) == 4 * (2 * 3 * 4 * 6)


def test_a_grid_sampler_in_three_dimensions_counts_the_same():
    x, grid = torch.randn(2, 3, 5, 5, 5), torch.rand(2, 4, 6, 2, 3)
    assert arith(F.grid_sample, x, grid, align_corners=False) == 4 * (2 * 3 * 4 * 6 * 2)


@pytest.mark.parametrize(("mask", "each"), [((True, False), 4), ((False, True), 4 * 2), ((True, True), 4 + 4 * 2)])
def test_the_gradient_of_a_grid_has_two_axes(mask, each):
    x, grid = torch.randn(2, 3, 5, 5), torch.rand(2, 4, 6, 2)
    out = F.grid_sample(x, grid, align_corners=False)
    assert price(aten.grid_sampler_2d_backward.default, out, x, grid, 0, 0, False, mask) == Cost(0, each * out.numel())


def test_the_backward_of_other_grid_samplers_is_that_of_both_gradients():
    x, grid = torch.randn(2, 3, 5, 5), torch.rand(2, 4, 6, 2)
    out = F.grid_sample(x, grid, align_corners=False)
    expected = price(aten.grid_sampler_2d_backward.default, out, x, grid, 0, 0, False, (True, True))
    assert price_of(aten.cudnn_grid_sampler_backward.default, None, x, grid, out) == expected
    assert price_of(aten._grid_sampler_2d_cpu_fallback_backward.default, None, out, x, grid, 0, 0, False) == expected


@given(n=st.integers(1, 3), sides=st.lists(st.integers(1, 3), min_size=2, max_size=3))
@settings(deadline=None, max_examples=10)
def test_an_affine_grid_is_a_product_with_its_matrix(n, sides):
    rank = len(sides)
    theta = torch.randn(n, rank, rank + 1)
    points = torch.tensor(sides).prod()
    meter = Meter()
    einsum("nij,npj->npi", meter.read(theta), meter.read(torch.ones(n, points, rank + 1)))
    size = [n, 1, *sides]
    cost = price(aten.affine_grid_generator.default, theta, size, False)
    assert (cost.macs, cost.activations) == (meter.products, n * points * rank)
    grid = F.affine_grid(theta, size, align_corners=False)
    assert price_of(aten.affine_grid_generator_backward.default, None, grid, size, False).macs == meter.products


def test_shuffling_pixels_is_free():
    with OpCounter(strict=True) as counter:
        F.pixel_unshuffle(F.pixel_shuffle(torch.randn(1, 4, 2, 2), 2), 2)
        F.channel_shuffle(torch.randn(1, 4, 2, 2), 2)
    assert arith(lambda: None) == sum(total.arith for total in counter.by_operator().values()) == 0
    assert counter.profile.coverage.free
