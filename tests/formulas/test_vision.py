"""torchvision's operators count the samples of regions, and the products of rigid convolutions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opcount.cost import Cost
from opcount.formulas import vision
from tests.formulas.seen import seen


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
