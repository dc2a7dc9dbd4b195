"""Deformable convolutions and attention, against loops that count what they do."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from torch.nn import functional

from opcount import Cost, OpCounter
from opcount.errors import FormulaError
from opcount.formulas.vision import deform_conv2d, deform_conv2d_backward
from tests.formulas.functions import backward, count, forward, sample, stand_in, wanting
from tests.formulas.oracle import Meter, Number

CASES = [
    # channels in, out, kernel, stride, padding, dilation, groups, groups of offsets, size
    (2, 3, (2, 2), 1, 0, 1, 1, 1, (4, 5)),
    (4, 4, (3, 3), 2, 1, 1, 2, 2, (5, 5)),
    (4, 2, (3, 1), 1, 1, 2, 1, 4, (5, 4)),
]


def make(case, batch=1):
    c_in, c_out, kernel, stride, padding, dilation, groups, offset_groups, size = case
    torch.manual_seed(0)
    x = torch.rand(batch, c_in, *size, dtype=torch.double)
    weight = torch.rand(c_out, c_in // groups, *kernel, dtype=torch.double)
    out = functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    offset = torch.zeros(batch, 2 * offset_groups * prod(kernel), *out.shape[2:], dtype=torch.double)
    mask = torch.ones(batch, offset_groups * prod(kernel), *out.shape[2:], dtype=torch.double)
    return x, offset, mask, weight, out, (stride, padding, dilation, groups, offset_groups)


def deformed(x, offset, mask, weight, out, options):
    """Sample, mask and multiply; return the values and the products of samples, masks, and the convolution."""
    stride, padding, dilation, groups, offset_groups = options
    samples, masks, macs = Meter(), Meter(), Meter()
    image = samples.read(x)
    columns = {}
    kernel = weight.shape[2:]
    for n, c, i, j, ki, kj in product(*map(range, (*x.shape[:2], *out.shape[2:], *kernel))):
        tap = (c // (x.shape[1] // offset_groups)) * prod(kernel) + ki * kernel[1] + kj
        dy, dx = offset[n, 2 * tap, i, j].item(), offset[n, 2 * tap + 1, i, j].item()
        found = sample(
            image[n, c], i * stride - padding + ki * dilation + dy, j * stride - padding + kj * dilation + dx
        )
        masked = Number(found.value, masks) * mask[n, tap, i, j].item()
        columns[n, c, i, j, ki, kj] = Number(masked.value, macs)
    filters = macs.read(weight)
    result = torch.zeros(out.shape, dtype=torch.double)
    for n, o, i, j in product(*map(range, out.shape)):
        first = o // (len(weight) // groups) * weight.shape[1]
        total = Number(0.0, macs)
        for c, ki, kj in product(*map(range, weight.shape[1:])):
            total = total + columns[n, first + c, i, j, ki, kj] * filters[o, c, ki, kj]
        result[n, o, i, j] = total.value
    return result, samples.products, masks.products, macs.products


@pytest.mark.parametrize("case", CASES)
def test_a_deformable_convolution_counts_its_products_its_samples_and_its_masks(case):
    x, offset, mask, weight, out, options = make(case)
    result, samples, masks, macs = deformed(x, offset, mask, weight, out, options)
    assert torch.allclose(result, out)  # without an offset it is the convolution
    plain = Cost(macs, samples, out.numel())
    for name in ("DeformConv2dFunction", "DeformConvFunction", "_DeformConv"):
        assert forward(name, out, x, offset, weight, *options) == plain
    assert forward("DeformConv2dFunction", out, x, offset, weight, *options, False, 32) == plain
    for name in ("ModulatedDeformConv2dFunction", "ModulatedDeformConvFunction", "_ModulatedDeformConv"):
        assert forward(name, out, x, offset, mask, weight, None, *options) == plain + Cost(0, masks)
    bias = torch.zeros(len(weight))
    assert forward("_DCNv2", out, x, offset, mask, weight, bias, *options[:3], 1) == plain + Cost(
        0, masks + out.numel()
    )


@pytest.mark.parametrize("case", CASES)
def test_forward_and_backward_count_what_torchvision_does(case):
    x, offset, mask, weight, out, (stride, padding, dilation, groups, offset_groups) = make(case, batch=2)
    bias = torch.zeros(len(weight), requires_grad=True)
    sizes = (stride, stride, padding, padding, dilation, dilation, groups, offset_groups)
    wanting(x, offset, mask, weight)
    ours = (x, offset, mask, weight, bias, stride, padding, dilation, groups, offset_groups)
    theirs = (x, weight, offset, mask, bias, *sizes, True)
    name = "ModulatedDeformConv2dFunction"
    assert forward(name, out, *ours) == deform_conv2d(out, *theirs)
    assert backward(name, out, *ours) == deform_conv2d_backward(None, out, *theirs)
    plain = (x, weight, offset, mask, None, *sizes, False)
    assert backward("DeformConv2dFunction", out, x, offset, weight) == deform_conv2d_backward(None, out, *plain)


def test_only_the_gradients_that_are_wanted_count():
    x, offset, mask, weight, out, options = make(CASES[1])
    macs, name = out.numel() * prod(weight.shape[1:]), "ModulatedDeformConv2dFunction"
    assert backward(name, out, x, offset, mask, weight, None, *options).macs == 0
    assert backward(name, out, x, *wanting(offset), mask, weight, None, *options).macs == macs
    assert backward(name, out, *wanting(x, offset, mask, weight), None, *options).macs == 2 * macs


LEVELS = [(3, 4), (2, 2)]


def attention(batch=1, queries=3, heads=2, dim=4, points=2):
    torch.manual_seed(0)
    shapes = torch.tensor(LEVELS)
    value = torch.rand(batch, sum(h * w for h, w in LEVELS), heads, dim, dtype=torch.double)
    places = torch.rand(batch, queries, heads, len(LEVELS), points, 2, dtype=torch.double)
    weights = torch.rand(batch, queries, heads, len(LEVELS), points, dtype=torch.double)
    starts = torch.tensor([0, 12])
    return torch.empty(batch, queries, heads * dim), value, shapes, starts, places, weights


def attended(value, places, weights):
    """Weigh the samples of each query; return the values and the products of samples and weights."""
    samples, macs = Meter(), Meter()
    batch, queries, heads, levels, points = weights.shape
    dim = value.shape[-1]
    numbers = samples.read(value)
    result = torch.zeros(batch, queries, heads * dim, dtype=torch.double)
    for b, q, h, d in product(range(batch), range(queries), range(heads), range(dim)):
        total, start = Number(0.0, macs), 0
        for level, (height, width) in enumerate(LEVELS[:levels]):
            image = numbers[b, start : start + height * width, h, d].reshape(height, width)
            start += height * width
            for p in range(points):
                x, y = (places[b, q, h, level, p] * torch.tensor([width, height]) - 0.5).tolist()
                total = total + Number(sample(image, y, x).value, macs) * weights[b, q, h, level, p].item()
        result[b, q, h * dim + d] = total.value
    return result, samples.products, macs.products


def by_grid_sampling(value, places, weights):
    """Do the same by PyTorch's operators, as the libraries do without their kernels."""
    batch, queries, heads, levels, points = weights.shape
    dim, sampled = value.shape[-1], []
    for level, part in enumerate(value.split([h * w for h, w in LEVELS], dim=1)):
        image = part.flatten(2).transpose(1, 2).reshape(batch * heads, dim, *LEVELS[level])
        grid = (2 * places - 1)[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(functional.grid_sample(image, grid, align_corners=False))
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    out = (torch.stack(sampled, dim=-2).flatten(-2) * weights).sum(-1)
    return out.view(batch, heads * dim, queries).transpose(1, 2)


@pytest.mark.parametrize("sizes", [{}, {"batch": 2, "queries": 1, "heads": 1, "dim": 3, "points": 4}])
def test_deformable_attention_counts_a_mac_and_four_for_each_sample(sizes):
    out, value, shapes, starts, places, weights = attention(**sizes)
    result, samples, macs = attended(value, places, weights)
    assert torch.allclose(result, by_grid_sampling(value, places, weights))
    for name in ("MultiScaleDeformableAttnFunction", "MSDeformAttnFunction", "MultiScaleDeformableAttentionFunction"):
        assert forward(name, out, value, shapes, starts, places, weights, 64) == (macs, samples, out.numel())


def test_all_arithmetic_of_deformable_attention_is_what_the_slow_path_counts():
    out, value, shapes, starts, places, weights = attention(batch=2, queries=5)
    with OpCounter() as counter:
        by_grid_sampling(value, places, weights)
    by = counter.by_operator()
    samples = by["aten.grid_sampler_2d.default"].arith
    weighing = by["aten.sum.dim_IntList"].arith + samples // 4  # the sum, and the product of the same size
    cost = forward("MSDeformAttnFunction", out, value, shapes, starts, places, weights, 64)
    assert 2 * cost.macs + cost.arith == samples + weighing


def test_the_backward_of_deformable_attention_has_a_gradient_for_each_axis():
    out, value, shapes, starts, places, weights = attention()
    wanting(value, places, weights)
    once = forward("MSDeformAttnFunction", out, value, shapes, starts, places, weights, 64)
    cost = backward("MSDeformAttnFunction", out, value, shapes, starts, places, weights, 64)
    assert cost == (4 * once.macs, 4 * once.arith, 0)  # values, weights, two axes of places


@pytest.mark.parametrize(("kernel", "center"), [((3, 3), 0), ((3, 3), 1), ((1, 3), 0)])
def test_the_third_and_fourth_version_weigh_each_sample_by_its_mask(kernel, center):
    groups, channels = 2, 3
    taps = prod(kernel) - center
    x = torch.rand(1, 4, 5, groups * channels, requires_grad=True)
    offset = torch.rand(1, 4, 5, groups * taps * 2, requires_grad=True)
    mask = torch.rand(1, 4, 5, groups * taps)
    samples = x.numel() * taps  # as many outputs as inputs: padded
    options = (*kernel, 1, 1, kernel[0] // 2, kernel[1] // 2, 1, 1, groups, channels, 1.0, 256, center)
    assert forward("DCNv3Function", x, x, offset, mask, *options) == (samples, 4 * samples, x.numel())
    assert backward("DCNv3Function", x, x, offset, mask, *options) == (3 * samples, 12 * samples, 0)
    mixed = torch.rand(1, 4, 5, -(-groups * taps * 3 // 8) * 8)
    assert forward("DCNv4Function", x, x, mixed, *options) == (samples, 4 * samples, x.numel())
    assert backward("DCNv4Function", x, x, mixed, *options) == (samples, 4 * samples, 0)


def test_flash_deformable_attention_has_its_softmax_inside():
    out, value, shapes, starts, _, weights = attention()
    mixed = torch.rand(*weights.shape[:3], 3 * prod(weights.shape[3:]))
    samples = out.numel() * prod(weights.shape[3:])
    cost = forward("FlashDeformAttnFunction", out, value, shapes, starts, mixed, 64, 2)
    assert cost == (samples, 4 * samples + 5 * weights.numel(), out.numel())


@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 2, 3, 3, 3)])
def test_another_rank_is_refused(shape):
    x, offset, _, _, out, options = make(CASES[0])
    with pytest.raises(FormulaError):
        forward("DeformConv2dFunction", out, x, offset, torch.rand(shape), *options)


def test_a_layer_is_counted_forward_and_backward():
    x, offset, mask, weight, out, options = make(CASES[1])
    wanting(x, offset, mask, weight)
    function = stand_in("ModulatedDeformConv2dFunction", lambda *_: out.shape, {0, 1, 2, 3})
    by = count(function, x, offset, mask, weight, None, *options).by_operator()
    macs = out.numel() * prod(weight.shape[1:])
    assert by["autograd.ModulatedDeformConv2dFunction"].macs == macs
    assert by["autograd.ModulatedDeformConv2dFunctionBackward"].macs == 2 * macs


def test_a_call_that_the_formula_does_not_know_is_named():
    function = stand_in("DCNv3Function", lambda x, *_: x.shape, {0})
    x = torch.rand(1, 4, 4, 6, requires_grad=True)
    with pytest.warns(UserWarning, match="DCNv3Function"), OpCounter() as counter:
        function.apply(x, x, x, 3, 3).sum().backward()
    assert set(counter.coverage.uncounted) == {"autograd.DCNv3Function", "autograd.DCNv3FunctionBackward"}
