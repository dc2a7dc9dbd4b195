"""Fused norms and softmax: as the operators of PyTorch that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opcount.errors import FormulaError
from opcount.formulas.norm import rms_norm, rms_norm_backward
from tests.formulas.functions import both, count, counted, forward, stand_in, wanting

LAYER_NORMS = ["FusedLayerNormAffineFunction", "FusedLayerNormAffineMixedDtypesFunction", "LigerLayerNormFunction"]


@pytest.mark.parametrize("name", LAYER_NORMS)
@pytest.mark.parametrize("grads", [(True, True, True), (False, True, True), (True, False, False)])
def test_a_layer_norm_counts_what_pytorch_does(name, grads):
    x, weight, bias = torch.rand(3, 4), torch.rand(4), torch.rand(4)
    for tensor, grad in zip((x, weight, bias), grads, strict=True):
        tensor.requires_grad_(grad)
    expected = counted(lambda *t: functional.layer_norm(t[0], (4,), t[1], t[2]), x, weight, bias)
    assert both(name, x, x, weight, bias, torch.Size([4]), 1e-5, False) == expected


def test_a_norm_without_weights_takes_its_shape_in_their_place():
    (x,) = wanting(torch.rand(3, 4))
    expected = counted(lambda x: functional.layer_norm(x, (4,)), x)
    assert both("FusedLayerNormFunction", x, x, torch.Size([4]), 1e-5) == expected
    assert both("FusedRMSNormFunction", x, x, (4,), 1e-5) == [3 * 12, 6 * 12]


@pytest.mark.parametrize("name", ["FusedRMSNormAffineFunction", "LigerRMSNormFunction"])
def test_an_rms_norm_counts_what_the_fused_operator_of_pytorch_does(name):
    x, weight = wanting(torch.rand(3, 4), torch.rand(4))
    expected = [
        rms_norm(x, weight).arith,
        rms_norm_backward(x, weight, [True, True]).arith,
    ]
    assert both(name, x, x, weight, (4,), 1e-6) == expected


def test_batches_and_groups_count_five_and_nine():
    x, weight, bias = wanting(torch.rand(2, 4, 3, 3), torch.rand(4), torch.rand(4))
    expected = counted(lambda *t: functional.batch_norm(t[0], None, None, t[1], t[2], training=True), x, weight, bias)
    assert both("SyncBatchNormFunction", x, x, weight, bias, weight, bias, 0.1, 1e-5, 0, 1, "N") == expected
    expected = counted(lambda *t: functional.group_norm(t[0], 2, t[1], t[2]), x, weight, bias)
    assert both("LigerGroupNormFunction", x, x, weight, bias, 4, 2, 1e-5) == expected


TRITON = [
    # arguments behind the bias, RMS norm, operations beside it
    ((None, 1e-6, False, False, False), False, 0),  # mamba 1.0
    (("x", 1e-6, True, False, True), True, 1),
    ((None, None, None, None, 1e-6, 0.0, None, False, False, True, False), True, 0),  # mamba 2
    (("x", None, None, None, 1e-6, 0.1, None, True, False, False, False), False, 3),
    (("x", None, None, None, 1e-6, 0.0, None, True, False, False, True, False, None, None, None), True, 1),  # 2.8
    ((None, 1e-6, None, True, True), True, 0),  # gated, without a gate
    (("x", 1e-6, None, True, False), False, 2),
    (("x", 1e-6, 2, False, True), True, 2),
]


@pytest.mark.parametrize(("args", "rms", "beside"), TRITON)
def test_each_of_the_norms_of_one_name_is_told_by_its_arguments(args, rms, beside):
    x, weight, bias = torch.rand(3, 4), torch.rand(4), torch.rand(4)
    args = [x if arg == "x" else arg for arg in args]
    assert forward("LayerNormFn", x, x, weight, bias, *args).arith == 12 * ((4 if rms else 5) + beside)


def test_two_norms_of_one_sum_are_refused():
    x, weight = torch.rand(3, 4), torch.rand(4)
    with pytest.raises(FormulaError):
        forward("LayerNormFn", x, x, weight, weight, None, x, weight, None, 1e-6, 0.0, None, False, False, True, False)


def test_softmaxes_count_their_scale_and_their_mask():
    (x,) = wanting(torch.rand(2, 3, 4, 4))
    mask = torch.zeros(2, 1, 4, 4)
    assert both("LigerSoftmaxFunction", x, x) == counted(lambda x: x.softmax(-1), x)
    assert both("ScaledSoftmax", x, x, 0.5) == counted(lambda x: (x * 0.5).softmax(-1), x)
    masked = counted(lambda x: (x * 0.5 + mask).softmax(-1), x)
    assert both("ScaledMaskedSoftmax", x, x, mask, 0.5) == masked
    assert both("ScaledUpperTriangMaskedSoftmax", x, x, 0.5) == masked
    assert both("ScaledMaskedSoftmax", x, x, None, 0.5) == both("ScaledSoftmax", x, x, 0.5)


def test_families_are_those_of_what_is_stood_for():
    x, weight, bias = wanting(torch.rand(3, 4), torch.rand(4), torch.rand(4))
    function = stand_in("FusedLayerNormAffineFunction", lambda x, *_: x.shape, {0, 1, 2})
    counter = count(function, x, weight, bias, torch.Size([4]), 1e-5)
    assert {record.family for record in counter.profile.records if record.cost.arith} == {"norm"}


@pytest.mark.parametrize(
    ("name", "args", "times"),
    [
        ("FusedLayerNormAffineFunction", (torch.rand(4), torch.rand(4), (4,), 1e-5), 5),
        ("FastLayerNormFN", (torch.rand(4), torch.rand(4), 1e-5), 5),
        ("FusedRMSNormAffineFunction", (torch.rand(4), (4,), 1e-5), 0),
    ],
)
def test_the_published_figures_have_the_norms_that_they_have_elsewhere(name, args, times):
    counter = count(stand_in(name, lambda x, *_: x.shape, {0}), torch.rand(3, 4), *args)
    assert counter.flops == times * 12
