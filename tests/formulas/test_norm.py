"""Normalisation, against its definition on numbers that count their operations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter
from opcount.cost import Cost
from tests.formulas.oracle import Meter, price, price_of

aten = torch.ops.aten
SHAPE = (2, 4, 3, 5)
NUMEL = 2 * 4 * 3 * 5


def arith(function, *args):
    with OpCounter(strict=True) as counter:
        function(*args)
    assert counter.macs == counter.activations == 0
    return sum(total.arith for name, total in counter.by_operator().items() if "norm" in name)


@pytest.mark.parametrize(
    ("layer", "training", "each"),
    [
        (nn.BatchNorm2d(4), True, 5),
        (nn.BatchNorm2d(4, affine=False), True, 4),
        (nn.BatchNorm2d(4), False, 2),
        (nn.BatchNorm2d(4, affine=False), False, 1),
        (nn.BatchNorm2d(4, track_running_stats=False), False, 5),  # no statistics but the batch's
        (nn.InstanceNorm2d(4), True, 4),
        (nn.InstanceNorm2d(4, affine=True), True, 5),
        (nn.LayerNorm((3, 5)), True, 5),
        (nn.LayerNorm((3, 5), elementwise_affine=False), True, 4),
        (nn.GroupNorm(2, 4), True, 5),
        (nn.GroupNorm(2, 4, affine=False), True, 4),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_norm_counts_the_published_figure_for_each_element(layer, training, each, mode):
    x = torch.randn(SHAPE)
    with mode():
        assert arith(layer.train(training), x) == each * NUMEL


def test_training_is_what_the_call_says():
    x, stats = torch.randn(SHAPE), (torch.zeros(4), torch.ones(4))
    affine = torch.ones(4), torch.zeros(4)
    for operator in (aten.native_batch_norm, aten._native_batch_norm_legit):
        assert price(operator.default, x, *affine, *stats, True, 0.1, 1e-5).arith == 5 * NUMEL
        assert price(operator.default, x, *affine, *stats, False, 0.1, 1e-5).arith == 2 * NUMEL
    cudnn = aten.cudnn_batch_norm.default
    assert price_of(cudnn, None, x, *affine, *stats, True, 0.1, 1e-5).arith == 5 * NUMEL
    no_stats = aten._native_batch_norm_legit.no_stats
    assert price(no_stats, x, *affine, True, 0.1, 1e-5).arith == 5 * NUMEL
    assert price(aten._native_batch_norm_legit_no_training.default, x, *affine, *stats, 0.1, 1e-5).arith == 2 * NUMEL
    assert price(aten._batch_norm_no_update.default, x, *affine, *stats, 0.1, 1e-5).arith == 2 * NUMEL
    assert price(aten._batch_norm_with_update.default, x, *affine, *stats, 0.1, 1e-5).arith == 5 * NUMEL


def test_the_parts_of_a_synchronized_batch_norm_count_as_the_whole():
    x, c = torch.randn(SHAPE), torch.ones(4)
    forward = price_of(aten.batch_norm_stats.default, None, x, 1e-5)
    forward += price_of(aten.batch_norm_elemt.default, x, x, c, c, c, c, 1e-5)
    assert forward == Cost(0, 5 * NUMEL)
    backward = price_of(aten.batch_norm_backward_reduce.default, None, x, x, c, c, c, True, True, True)
    backward += price_of(aten.batch_norm_backward_elemt.default, x, x, x, c, c, c, c, c, c)
    assert backward == price_of(aten.cudnn_batch_norm_backward.default, None, x, x, c, c, c, c, c, 1e-5, c)


def test_fused_rms_norm_counts_four_for_each_element_and_three_without_weight():
    x = torch.randn(SHAPE)
    assert price_of(aten._fused_rms_norm.default, None, x, [5], torch.ones(5), 1e-5) == Cost(0, 4 * NUMEL)
    assert price_of(aten._fused_rms_norm.default, None, x, [5], None, None) == Cost(0, 3 * NUMEL)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_rms_norm_counts_its_parts_where_no_kernel_fuses_them(mode):
    x = torch.randn(SHAPE)
    with mode(), OpCounter(strict=True) as counter:
        F.rms_norm(x, [5], torch.ones(5))
    rows = NUMEL // 5
    # x ** 2, the mean, two products for each element; epsilon and the root for each row.
    assert sum(total.arith for total in counter.by_operator().values()) == 4 * NUMEL + 2 * rows


# Backward: naive programs for one channel or row, from the expressions in the formulas' docstrings. What they do once
# a channel is the same for any number of elements, so that the difference of two sizes tells what each element costs.


def total(xs):
    return sum(xs, 0.0)


def batch_norm(x, dy, mask, training):
    n, rstd, mean, weight = len(x), 0.5, 0.25, 1.5
    sums = training and mask[0]
    scaled = [(a - mean) * rstd for a in x] if mask[1] or sums else None
    product = total(d * a for d, a in zip(dy, scaled, strict=True)) if scaled else None
    plain = total(dy) if mask[2] or sums else None
    if mask[0] and training:
        a, b = product * (1 / n), plain * (1 / n)
        return [(d - b - s * a) * (weight * rstd) for d, s in zip(dy, scaled, strict=True)]
    return [d * (weight * rstd) for d in dy] if mask[0] else None


def layer_norm(x, dy, mask, weight):
    n, rstd, mean = len(x), 0.5, 0.25
    scaled = [(a - mean) * rstd for a in x] if mask[0] or mask[1] else None
    if mask[1]:  # each joins a sum over the rows
        [0.0 + d * s for d, s in zip(dy, scaled, strict=True)]
    if mask[2]:
        [0.0 + d for d in dy]
    if not mask[0]:
        return None
    g = [d * weight for d in dy] if weight else dy
    a, b = total(p * s for p, s in zip(g, scaled, strict=True)) * (1 / n), total(g) * (1 / n)
    return [(p - b - s * a) * rstd for p, s in zip(g, scaled, strict=True)]


def rms_norm(x, dy, mask, weight):
    n, rstd = len(x), 0.5
    scaled = [a * rstd for a in x] if mask[0] or mask[1] else None
    if mask[1]:
        [0.0 + d * s for d, s in zip(dy, scaled, strict=True)]
    if not mask[0]:
        return None
    g = [d * weight for d in dy] if weight else dy
    a = total(p * s for p, s in zip(g, scaled, strict=True)) * (1 / n)
    return [(p - s * a) * rstd for p, s in zip(g, scaled, strict=True)]


def each(program, *options):
    """Return the operations that one more element costs."""
    counts = []
    for n in (6, 7):
        meter = Meter()
        program(meter.read(torch.randn(n)), meter.read(torch.randn(n)), *options)
        counts.append(meter.operations)
    return counts[1] - counts[0]


MASKS = [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_backward_counts_what_its_expressions_do(mask, training):
    x, c = torch.randn(SHAPE), torch.ones(4)
    cost = price(aten.native_batch_norm_backward.default, x, x, c, c, c, c, c, training, 1e-5, mask)
    assert cost == Cost(0, each(batch_norm, mask, training) * NUMEL)


@pytest.mark.parametrize("mask", MASKS)
def test_group_norm_backward_counts_as_a_batch_norm_in_training(mask):
    x, stats = torch.randn(SHAPE), torch.ones(2, 2)
    cost = price(aten.native_group_norm_backward.default, x, x, stats, stats, torch.ones(4), 2, 4, 15, 2, mask)
    assert cost == Cost(0, each(batch_norm, mask, True) * NUMEL)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("weight", [None, torch.ones(5)])
def test_layer_norm_backward_counts_what_its_expressions_do(mask, weight):
    x, stats = torch.randn(SHAPE), torch.ones(2, 4, 3, 1)
    cost = price_of(aten.native_layer_norm_backward.default, None, x, x, [5], stats, stats, weight, weight, mask)
    assert cost == Cost(0, each(layer_norm, mask, 2.0 if weight is not None else None) * NUMEL)


@pytest.mark.parametrize("mask", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("weight", [None, torch.ones(5)])
def test_rms_norm_backward_counts_what_its_expressions_do(mask, weight):
    x = torch.randn(SHAPE)
    cost = price_of(aten._fused_rms_norm_backward.default, None, x, x, [5], torch.ones(2, 4, 3, 1), weight, mask)
    assert cost == Cost(0, each(rms_norm, mask, 2.0 if weight is not None else None) * NUMEL)
