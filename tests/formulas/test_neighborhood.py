"""Products of places with their neighbours, against loops that count what they do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from opcount.errors import FormulaError
from tests.formulas.functions import backward, count, forward, stand_in, wanting
from tests.formulas.oracle import Meter, Number


def dots(meter, a, b):
    """Add up the products of pairs."""
    total = Number(0.0, meter)
    for left, right in zip(a, b, strict=True):
        total = total + left * right
    return total


@pytest.mark.parametrize(("kernel", "groups", "scale"), [(1, 1, 1), (3, 1, 2), (3, 2, 1), (5, 2, 2)])
@pytest.mark.parametrize("name", ["CARAFEFunction", "CARAFENaiveFunction"])
def test_reassembly_counts_the_neighbours_of_each_output(name, kernel, groups, scale):
    x, h, w = torch.rand(1, 4, 3, 2), 3, 2
    masks = torch.rand(1, kernel * kernel * groups, h * scale, w * scale)
    meter, reach = Meter(), kernel // 2
    image = np.pad(meter.read(x), [(0, 0), (0, 0), (reach, reach), (reach, reach)], constant_values=Number(0.0, meter))
    weights = meter.read(masks)
    out = torch.empty(1, 4, h * scale, w * scale)
    for c, i, j in product(*map(range, out.shape[1:])):
        first = c // (4 // groups) * kernel * kernel
        window = image[0, c, i // scale : i // scale + kernel, j // scale : j // scale + kernel]
        dots(meter, window.flat, weights[0, first : first + kernel * kernel, i, j])
    assert forward(name, out, x, masks, kernel, groups, scale) == (meter.products, 0, out.numel())


@pytest.mark.parametrize(("kernel", "reach"), [(1, 1), (3, 1), (1, 2)])
def test_correlation_counts_the_channels_and_taps_of_each_displacement(kernel, reach):
    a, b = torch.rand(2, 1, 3, 4, 4)
    meter, edge = Meter(), kernel // 2
    pad = [(0, 0), (0, 0), (edge + reach,) * 2, (edge + reach,) * 2]
    left, right = (np.pad(meter.read(t), pad, constant_values=Number(0.0, meter)) for t in (a, b))
    side = 2 * reach + 1
    out = torch.empty(1, side, side, 4, 4)
    for dy, dx, i, j in product(*map(range, out.shape[1:])):
        here = left[0, :, i + reach : i + reach + kernel, j + reach : j + reach + kernel]
        there = right[0, :, i + dy : i + dy + kernel, j + dx : j + dx + kernel]
        dots(meter, here.flat, there.flat)
    macs = meter.products
    assert forward("CorrelationFunction", out, a, b, kernel, reach, 1, edge, 1, 1) == (macs, 0, out.numel())
    assert forward("SpatialCorrelationSamplerFunction", out, a, b, (kernel, kernel), side) == (macs, 0, out.numel())
    flat = out.flatten(1, 2)
    assert forward("CorrelationFunction", flat, a, b, reach, kernel, reach, 1, 1, 1) == (macs, out.numel(), out.numel())
    if kernel == 1:
        assert forward("_FunctionCorrelation", flat, a, b) == (macs, out.numel(), out.numel())


def test_a_correlation_whose_kernel_nobody_knows_is_refused():
    a = torch.rand(1, 3, 4, 4)
    with pytest.raises(FormulaError):
        forward("CorrelationFunction", torch.rand(1, 9, 4, 4), a, a)


def test_a_criss_cross_counts_the_row_and_the_column():
    t, h, w = torch.rand(1, 3, 2, 4), 2, 4
    meter = Meter()
    queries, keys = meter.read(t), meter.read(t)
    for i, j in product(range(h), range(w)):
        cross = [(i, q) for q in range(w)] + [(q, j) for q in range(h) if q != i]
        for y, x in cross:
            dots(meter, queries[0, :, i, j], keys[0, :, y, x])
    weight = torch.empty(1, h + w - 1, h, w)
    assert forward("CAWeightFunction", weight, t, t) == (meter.products, 0, weight.numel())
    assert forward("CA_Map", t, weight, t) == (meter.products, 0, t.numel())  # as many products, gathered the other way


@pytest.mark.parametrize(("rank", "neighbours", "places"), [("1D", 3, (5,)), ("2D", 9, (3, 4))])
def test_neighborhood_attention_counts_scores_and_sums_alike(rank, neighbours, places):
    q = torch.rand(1, 2, *places, 4, requires_grad=True)
    scores, bias = torch.rand(1, 2, *places, neighbours), torch.rand(2, 5, requires_grad=True)
    macs = scores.numel() * 4
    name = f"NATTEN{rank}QKRPBFunction"
    assert forward(name, scores, q, q, bias, 1) == (macs, scores.numel(), scores.numel())
    assert forward(name, scores, q, q, None, 3, 1) == (macs, 0, scores.numel())
    assert backward(name, scores, q, q, bias, 1) == (2 * macs, scores.numel(), 0)
    assert forward(f"NATTEN{rank}AVFunction", q, scores, q, 1) == (macs, 0, q.numel())


@pytest.mark.parametrize("chosen", [0, 3, 16])
def test_a_masked_convolution_counts_the_places_of_its_mask(chosen):
    x, weight, bias = torch.rand(1, 3, 4, 4), torch.rand(2, 3, 3, 3), torch.rand(2)
    mask = torch.zeros(16)
    mask[:chosen] = 1
    out = torch.empty(1, 2, 4, 4)
    cost = forward("MaskedConv2dFunction", out, x, mask.view(1, 4, 4), weight, bias, 1)
    assert cost == (chosen * 2 * 3 * 9, chosen * 2, out.numel())
    with pytest.raises(FormulaError):
        forward("MaskedConv2dFunction", out, x, torch.zeros(1, 4, 4, device="meta"), weight, bias, 1)


def test_a_call_is_counted_forward_and_backward():
    x, masks = wanting(torch.rand(1, 4, 3, 3), torch.rand(1, 9, 6, 6))
    function = stand_in("CARAFEFunction", lambda x, masks, *_: (*x.shape[:2], *masks.shape[2:]), {0, 1})
    counter = count(function, x, masks, 3, 1, 2)
    macs = 4 * 6 * 6 * 9
    assert counter.by_operator()["autograd.CARAFEFunctionBackward"].macs == 2 * macs
    assert counter.macs == 3 * macs
