"""Quantized operators count the products of the float ones; torchvision's count their samples."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opcount.cost import Cost
from opcount.formulas import vision
from tests.formulas.seen import seen

pytestmark = pytest.mark.filterwarnings("ignore")
ops = torch.ops.quantized


def quantize(x, dtype=torch.quint8):
    return torch.quantize_per_tensor(x, 0.1, 0, dtype)


def total(function, *args, **kwargs):
    cost = seen(function, *args, **kwargs).total
    return cost.macs, cost.activations


@pytest.mark.parametrize("groups", [1, 2])
def test_a_static_convolution_counts_as_the_float_one(groups):
    x, weight = torch.randn(2, 4, 7, 7), torch.randn(6, 4 // groups, 3, 3)
    packed = ops.conv2d_prepack(quantize(weight, torch.qint8), None, [2, 2], [1, 1], [1, 1], groups)
    expected = total(functional.conv2d, x, weight, None, 2, 1, 1, groups)
    assert total(ops.conv2d.new, quantize(x), packed, 0.1, 0) == expected
    assert total(ops.conv2d_relu.new, quantize(x), packed, 0.1, 0) == expected


def test_a_static_convolution_in_one_dimension_counts_as_the_float_one():
    x, weight = torch.randn(2, 4, 9), torch.randn(6, 4, 3)
    packed = ops.conv1d_prepack(quantize(weight, torch.qint8), None, [1], [0], [1], 1)
    assert total(ops.conv1d, quantize(x), packed, 0.1, 0) == total(functional.conv1d, x, weight)


def test_a_transposed_convolution_counts_as_the_float_one():
    x, weight = torch.randn(2, 4, 5, 5), torch.randn(4, 6, 3, 3)
    packed = ops.conv_transpose2d_prepack(quantize(weight, torch.qint8), None, [2, 2], [0, 0], [0, 0], [1, 1], 1)
    expected = total(functional.conv_transpose2d, x, weight, None, 2)
    assert total(ops.conv_transpose2d, quantize(x), packed, 0.1, 0) == expected


def test_static_and_dynamic_linear_layers_count_as_the_float_one():
    x, weight = torch.randn(2, 3, 8), torch.randn(5, 8)
    packed = ops.linear_prepack(quantize(weight, torch.qint8), None)
    expected = total(functional.linear, x, weight)
    assert total(ops.linear, quantize(x), packed, 0.1, 0) == expected
    assert total(ops.linear_dynamic, x, packed) == expected
    assert total(ops.linear_dynamic_fp16, x, ops.linear_prepack_fp16(weight, None)) == expected


def test_packing_is_free():
    counted = seen(ops.linear_prepack, quantize(torch.randn(5, 8), torch.qint8), None)
    assert counted.families["quantized.linear_prepack.default"] == "free"


def test_quantizing_multiplies_and_shifts():
    x = torch.randn(4, 5)
    q = quantize(x)
    assert seen(torch.quantize_per_tensor, x, 0.1, 0, torch.quint8).total.arith == 2 * x.numel()
    assert seen(q.dequantize).total.arith == 2 * x.numel()


def test_a_region_without_a_ratio_samples_each_cell_of_its_bins():
    out, rois = torch.empty(1, 3, 2, 2), torch.tensor([[0.0, 0.0, 0.0, 12.0, 8.0]])  # 12 wide, 8 high, at half size
    cells_across, cells_down = 12 / 2 / 2, 8 / 2 / 2
    cost = vision.roi_align(out, None, rois, 0.5, 2, 2, 0, False)
    assert cost == Cost(arith=int(5 * out.numel() * cells_across * cells_down))
    assert vision.roi_align_backward(None, out, rois, 0.5, 2, 2, 1, 3, 8, 8, 0, False) == cost
    assert vision.ps_roi_align((out, None), None, rois, 0.5, 2, 2, 0) == cost


def test_a_region_with_a_ratio_samples_by_it():
    out = torch.empty(7, 3, 2, 2)
    assert vision.roi_align(out, None, torch.ones(7, 5), 0.5, 2, 2, 2, False) == Cost(arith=5 * out.numel() * 2 * 2)
    meta = vision.roi_align(out, None, torch.ones(7, 5, device="meta"), 0.5, 2, 2, 0, False)
    assert meta == Cost(arith=5 * out.numel() * 4)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_deformable_convolution_counts_the_products_of_a_rigid_one(groups):
    x, weight = torch.randn(2, 4, 7, 7), torch.randn(6, 4 // groups, 3, 3)
    out = functional.conv2d(x, weight, None, 1, 1, 1, groups)
    rigid = seen(functional.conv2d, x, weight, None, 1, 1, 1, groups).total
    arguments = (1, 1, 1, 1, 1, 1, groups, 1, True)
    cost = vision.deform_conv2d(out, x, weight, None, None, torch.zeros(0), *arguments)
    assert (cost.macs, cost.activations) == (rigid.macs, rigid.activations)
    samples = 2 * 4 * (3 * 3) * (7 * 7)  # of each channel, at each tap of each window
    assert cost.arith == samples * (4 + 1)  # bilinear, and the mask
    backward = vision.deform_conv2d_backward(None, out, x, weight, None, None, torch.zeros(0), *arguments)
    assert backward.macs == 2 * rigid.macs
