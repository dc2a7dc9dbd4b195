"""Pooling, against loops over its windows."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter
from opcount.cost import Cost
from tests.formulas.oracle import Meter, integers, price

aten = torch.ops.aten
small = settings(deadline=None, max_examples=12)
MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def read_windows(x, kernel):
    """Return how many elements a pooling without padding reads, its windows side by side."""
    reads = 0
    meter = Meter()
    for plane in meter.read(x).reshape(-1, *x.shape[2:]):
        for corner in product(*(range(0, n - k + 1, k) for n, k in zip(plane.shape, kernel, strict=True))):
            top = None
            for offset in product(*map(range, kernel)):
                value = plane[tuple(c + o for c, o in zip(corner, offset, strict=True))]
                top = value if top is None else top.larger(value)
                reads += 1
    return reads


def arith(function, *args, **kwargs):
    with OpCounter(strict=True) as counter:
        function(*args, **kwargs)
    assert counter.macs == counter.activations == 0
    return sum(total.arith for name, total in counter.by_operator().items() if "pool" in name)


@given(kernel=st.lists(st.integers(1, 3), min_size=1, max_size=3), extra=st.integers(0, 3))
@small
def test_a_pooling_counts_each_element_of_each_window(kernel, extra):
    x = integers(2, 2, *(k + extra for k in kernel))
    expected = read_windows(x, kernel)
    assert arith(MAX[len(kernel)], x, kernel) == expected
    assert arith(AVERAGE[len(kernel)], x, kernel) == expected


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_single_number_is_the_size_of_the_window_in_every_dimension(mode):
    x = torch.randn(2, 3, 8, 8)
    with mode():
        assert arith(F.max_pool2d, x, 2) == arith(F.avg_pool2d, x, 2) == 2 * 3 * 4 * 4 * (2 * 2)
    assert price(aten.avg_pool2d.default, x, [2]).arith == 2 * 3 * 4 * 4 * (2 * 2)


def test_windows_that_overlap_are_each_read_in_full():
    x = torch.randn(1, 2, 8, 8)
    assert arith(F.max_pool2d, x, 3, stride=2, padding=1) == 2 * 4 * 4 * (3 * 3)


def test_fractional_pooling_reads_a_window_for_each_output():
    assert arith(F.fractional_max_pool2d, torch.randn(1, 2, 8, 8), 3, output_size=4) == 2 * 4 * 4 * (3 * 3)
    assert arith(F.fractional_max_pool3d, torch.randn(1, 2, 8, 8, 8), 2, output_size=4) == 2 * 4**3 * 2**3


@pytest.mark.parametrize("size", [2, (4, 1), 3])
def test_adaptive_pooling_counts_its_input(size):
    x = torch.randn(2, 3, 8, 8)
    assert arith(F.adaptive_avg_pool2d, x, size) == arith(F.adaptive_max_pool2d, x, size) == 2 * 3 * 8 * 8


def test_adaptive_pooling_in_three_dimensions_counts_its_input():
    x = torch.randn(2, 3, 4, 6, 8)
    assert arith(F.adaptive_avg_pool3d, x, 2) == arith(F.adaptive_max_pool3d, x, 2) == 2 * 3 * 4 * 6 * 8


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_pooling_to_one_element_is_pooling_though_it_arrives_as_a_mean(mode):
    x = torch.randn(2, 3, 4, 5)
    with mode(), OpCounter(strict=True) as counter:
        F.adaptive_avg_pool2d(x, 1)
    assert counter.flops == 2 * 3 * 4 * 5  # the default convention counts it
    assert {r.family for r in counter.profile.records if r.cost.arith} == {"pool"}


@pytest.mark.parametrize(
    "mean",
    [
        lambda x: x.mean(),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.mean((-1, -2)),
        lambda x: x.mean((-2, -1), keepdim=True),
        lambda x: x[0].mean((-1, -2), keepdim=True),
    ],
)
def test_any_other_mean_is_a_reduction(mean):
    with OpCounter(strict=True) as counter:
        mean(torch.randn(2, 3, 4, 5))
    assert counter.flops == 0  # the default convention does not count it
    assert {r.family for r in counter.profile.records if r.cost.arith} == {"reduction"}


@pytest.mark.parametrize(
    ("function", "each_input", "each_output"),
    [
        (lambda x: F.max_pool2d(x, 2), 0, 1),  # a maximum sends its gradient to one place
        (lambda x: F.avg_pool2d(x, 2), 0, 2 * 2),  # a mean to the whole window
        (lambda x: F.adaptive_max_pool2d(x, 4), 0, 1),
        (lambda x: F.adaptive_avg_pool2d(x, 4), 1, 0),
    ],
)
def test_gradients_are_added_where_they_came_from(function, each_input, each_output):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    out = function(x)
    with OpCounter(strict=True) as counter:
        out.backward(torch.ones_like(out))
    pooled = [total.arith for name, total in counter.by_operator().items() if "pool" in name]
    assert pooled == [each_input * x.numel() + each_output * out.numel()]


def test_gradients_in_three_dimensions():
    x = torch.randn(1, 2, 4, 4, 4)
    out, indices = F.max_pool3d(x, 2, return_indices=True)
    options = ([2, 2, 2], [2, 2, 2], [0, 0, 0])
    cost = price(aten.max_pool3d_with_indices_backward.default, out, x, *options, [1, 1, 1], False, indices)
    assert cost == Cost(0, out.numel())
    average = price(aten.avg_pool3d_backward.default, out, x, *options, False, True, None)
    assert average == Cost(0, out.numel() * 2**3)


@pytest.mark.parametrize("size", [1, 2])
def test_pooling_in_one_dimension_is_not_the_pooling_that_tables_publish(size):
    x = torch.randn(2, 3, 7)
    with OpCounter() as c:
        torch.nn.functional.adaptive_avg_pool1d(x, size)
    assert c.arith == 2 * 3 * 7
    assert c.flops == 0
