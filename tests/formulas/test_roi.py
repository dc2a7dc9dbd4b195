"""Regions of interest of mmcv and detectron2, against loops that count what they do."""

from __future__ import annotations

from math import ceil, floor

import pytest
import torch

from opcount.coverage import FREE
from opcount.errors import FormulaError
from opcount.formulas import vision
from opcount.registry import BUILTIN
from tests.formulas.functions import backward, count, forward, sample, stand_in
from tests.formulas.oracle import Meter, Number

ROIS = torch.tensor([[0, 0.0, 0.0, 6.0, 4.0], [0, 1.0, 2.0, 3.5, 7.0]])
TURNED = torch.tensor([[0, 3.0, 3.0, 6.0, 4.0, 0.3], [0, 4.0, 2.0, 2.5, 5.0, 1.0]])


def averaged(x, rois, size, scale, ratio):
    """Average the samples of each bin; return the outputs' shape and the products, and the sums that average."""
    meter = Meter()
    image = meter.read(x[0])
    averaging = 0
    for _, left, top, right, bottom in rois.tolist():
        h, w = (bottom - top) * scale, (right - left) * scale
        rows = ratio or max(1, ceil(h / size))
        columns = ratio or max(1, ceil(w / size))
        for channel in image:
            for i in range(size):
                for j in range(size):
                    for p in range(rows):
                        for q in range(columns):
                            y = top * scale + (i + (p + 0.5) / rows) * h / size
                            sample(channel, y, left * scale + (j + (q + 0.5) / columns) * w / size)
                            averaging += 1
    return meter.products, averaging


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize(("channels", "size", "scale"), [(1, 2, 1.0), (3, 3, 0.5)])
@pytest.mark.parametrize("name", ["RoIAlignFunction", "_ROIAlign"])
def test_a_region_counts_four_products_and_one_sum_for_each_sample(name, channels, size, scale, ratio):
    x = torch.rand(1, channels, 8, 8)
    out = torch.empty(len(ROIS), channels, size, size)
    products, averaging = averaged(x, ROIS, size, scale, ratio)
    cost = forward(name, out, x, ROIS, (size, size), scale, ratio, "avg", True)
    assert cost == (0, products + averaging, 0)
    assert cost == vision.roi_align(out, x, ROIS, scale, size, size, ratio)


def test_arguments_that_have_defaults_may_be_absent():
    x, out = torch.rand(1, 2, 8, 8), torch.empty(2, 2, 3, 3)
    assert forward("RoIAlignFunction", out, x, ROIS, 3) == forward("RoIAlignFunction", out, x, ROIS, 3, 1.0, 0)


def test_a_turned_region_counts_as_many_samples_as_its_sides_are_long():
    x, out = torch.rand(1, 2, 8, 8), torch.empty(2, 2, 2, 2)
    straight = torch.tensor([[0, 0.0, 0.0, 6.0, 4.0], [0, 0.0, 0.0, 2.5, 5.0]])
    expected = forward("RoIAlignFunction", out, x, straight, 2, 0.5)
    assert forward("RoIAlignRotatedFunction", out, x, TURNED, 2, 0.5, 0, True, False) == expected
    assert forward("_ROIAlignRotated", out, x, TURNED, (2, 2), 0.5, 2) == (0, 5 * 4 * out.numel(), 0)


def test_an_oriented_region_blends_two_samples():
    x, out = torch.rand(1, 16, 8, 8), torch.empty(2, 16, 2, 2)
    samples = 2 * 2 * out.numel()
    two, blend, average = 2 * 4, 2, 1
    cost = forward("RiRoIAlignRotatedFunction", out, x, TURNED, 2, 0.5, 2, 8, False)
    assert cost == (0, samples * (two + blend + average), 0)


def test_a_largest_cell_gets_the_gradient_of_its_bin():
    x, out = torch.rand(1, 2, 8, 8), torch.empty(2, 2, 2, 2)
    cells = 2 * (3 * 2 + 2 * 3) * 4  # channels; rows x columns of both regions; bins
    assert forward("RoIPoolFunction", out, x, ROIS, 2, 1.0) == (0, cells, 0)
    assert backward("RoIPoolFunction", out, x, ROIS, 2, 1.0) == (0, out.numel(), 0)


def test_a_precise_region_counts_four_for_each_cell_that_a_bin_meets():
    x, out, size, scale = torch.rand(1, 3, 16, 16), torch.empty(2, 3, 3, 3), 3, 0.7
    met = 0
    for _, left, top, right, bottom in (ROIS * scale).double().tolist():
        step_y, step_x = (bottom - top) / size, (right - left) / size
        for i in range(size):
            for j in range(size):
                rows = ceil(top + step_y * (i + 1)) - floor(top + step_y * i)
                columns = ceil(left + step_x * (j + 1)) - floor(left + step_x * j)
                met += rows * columns
    assert forward("PrRoIPoolFunction", out, x, ROIS, size, scale) == (0, 4 * 3 * met, 0)


def test_a_shift_of_regions_has_a_gradient_along_two_axes():
    x, out = torch.rand(1, 2, 8, 8, requires_grad=True), torch.empty(2, 2, 2, 2)
    shift = torch.zeros(2, 2, 2, 2, requires_grad=True)
    each = 5 * 4 * out.numel()
    assert forward("DeformRoIPoolFunction", out, x, ROIS, shift, 2, 1.0, 2, 0.1) == (0, each, 0)
    assert backward("DeformRoIPoolFunction", out, x, ROIS, shift, 2, 1.0, 2, 0.1) == (0, 3 * each, 0)
    assert backward("DeformRoIPoolFunction", out, x, ROIS, None, 2, 1.0, 2, 0.1) == (0, each, 0)
    legacy = (x, ROIS, shift, 1.0, 2, 2, False, 1, 2, 2, 0.1)
    assert forward("DeformRoIPoolingFunction", out, *legacy) == (0, each, 0)
    assert backward("DeformRoIPoolingFunction", out, *legacy) == (0, 3 * each, 0)


def test_a_border_counts_its_samples_and_their_comparisons():
    x, boxes, pool = torch.rand(1, 8, 4, 4), torch.zeros(1, 16, 4), 5
    meter = Meter()
    comparisons = 0
    image = meter.read(x[0])
    for channel in image:  # a border has a quarter of the channels
        for _ in range(16):
            best = sample(channel, 1.5, 0.5)
            for i in range(1, pool + 1):
                best = best.larger(sample(channel, 1.5, 0.5 + 0.1 * i))
                comparisons += 1
    assert meter.others == comparisons
    out = torch.empty(1, 2, 16, 4)
    assert forward("BorderAlignFunction", out, x, boxes, pool) == (0, meter.products + comparisons, 0)
    assert backward("BorderAlignFunction", out, x, boxes, pool) == (0, 4 * out.numel(), 0)


def test_curves_and_boxes_count_five_for_each_sample():
    out = torch.empty(2, 2, 2, 4)
    assert forward("BezierAlignFunction", out, out, torch.zeros(2, 17), (2, 4), 1.0, 2, True).arith == 5 * 4 * 32
    assert forward("RotatedFeatureAlignFunction", out, out, out, 1.0, 5).arith == 5 * 5 * 32


def test_suppression_is_free():
    assert {BUILTIN.find([f"autograd.{name}"])[0].family for name in ("NMSop", "SoftNMSop")} == {FREE}


@pytest.mark.parametrize(
    "args",
    [
        (torch.zeros(2, 4), 2, 1.0, 2),  # regions without the image's index
        (torch.zeros(2, 6), 2, 1.0, 2),  # turned regions
        (ROIS, 1.0, (2, 2), 2),  # the scale before the size
    ],
)
def test_a_call_of_another_kind_is_refused(args):
    out = torch.empty(2, 2, 2, 2)
    with pytest.raises(FormulaError, match="expected"):
        forward("RoIAlignFunction", out, torch.rand(1, 2, 8, 8), *args)


def test_without_numbers_a_bin_has_two_by_two_samples():
    out, rois = torch.empty(2, 2, 2, 2), torch.empty(2, 5, device="meta")
    assert forward("RoIAlignFunction", out, out, rois, 2, 1.0, 0).arith == 5 * 4 * out.numel()
    assert forward("PrRoIPoolFunction", out, out, rois, 2, 1.0).arith == 4 * 4 * out.numel()


def test_a_sample_is_what_grid_sampling_makes():
    x = torch.rand(1, 1, 5, 5)
    image = Meter().read(x[0, 0])
    found = sample(image, 1.25, 3.5)
    grid = torch.tensor([[[[2 * 3.5 / 4 - 1, 2 * 1.25 / 4 - 1]]]])
    expected = torch.nn.functional.grid_sample(x, grid, align_corners=True)
    assert isinstance(found, Number)
    assert found.value == pytest.approx(expected.item(), abs=1e-6)


def test_a_call_is_counted_forward_and_backward():
    x = torch.rand(1, 2, 8, 8, requires_grad=True)
    function = stand_in("RoIAlignFunction", lambda x, rois, size, *_: (len(rois), x.shape[1], size, size), {0})
    counter = count(function, x, ROIS, 3, 1.0, 2, "avg", True)
    each = 5 * 4 * 2 * 2 * 3 * 3
    by = counter.by_operator()
    assert by["autograd.RoIAlignFunction"].arith == by["autograd.RoIAlignFunctionBackward"].arith == each
