"""Fused norms, activations, losses: as the operators of PyTorch that they stand for."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch.nn import functional

from opcount import OpCounter
from opcount.errors import FormulaError
from opcount.formulas.norm import rms_norm, rms_norm_backward
from tests.formulas.functions import backward, count, forward, stand_in, wanting
from tests.formulas.oracle import Meter, Number


def counted(function, *tensors):
    """Return the arithmetic of PyTorch's own operators, forward and, where there are gradients, backward."""
    for tensor in tensors:
        tensor.grad = None
    with OpCounter() as counter:
        out = function(*tensors)
        if out.requires_grad:
            out.backward(torch.ones_like(out))
    phases = counter.by_phase()
    return [phases[phase].arith if phase in phases else 0 for phase in ("forward", "backward")]


def both(name, out, *args):
    return [forward(name, out, *args).arith, backward(name, out, *args).arith]


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
        rms_norm(None, x, [4], weight).arith,
        rms_norm_backward(None, x, x, [4], None, weight, [True, True]).arith,
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


@pytest.mark.parametrize("name", ["LigerSiLUMulFunction", "LigerGELUMulFunction"])
def test_a_gate_counts_what_pytorch_does_and_its_activation_anew(name):
    a, b = wanting(*torch.rand(2, 3, 4).unbind())
    (expected, gradients) = counted(
        lambda a, b: functional.silu(a) * b, a.detach().requires_grad_(), b.detach().requires_grad_()
    )
    assert both(name, a, a, b) == [expected, gradients + 12]


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([x[..., half:], x[..., :half]], -1) * sin


def test_rotary_embeddings_count_three_for_each_element():
    q, k = wanting(torch.rand(1, 4, 5, 8), torch.rand(1, 2, 5, 8))
    cos = torch.rand(5, 8)
    once = counted(rotate, q.detach(), cos, cos)[0] + counted(rotate, k.detach(), cos, cos)[0]
    assert both("LigerRopeFunction", (q, k), q, k, cos, cos, None, 1) == [once, once]
    x, short = torch.rand(1, 5, 4, 8), torch.rand(5, 3)  # six of eight dimensions turn
    turned = x.numel() // 8 * 6
    assert forward("ApplyRotaryEmb", x, x, short, short, False).arith == 3 * turned
    packed = torch.stack([x, x, x], 2)
    assert forward("ApplyRotaryEmbQKV_", packed, packed, short, short).arith == 2 * 3 * turned


@pytest.mark.parametrize("name", ["FusedBiasLeakyReLUFunction", "FusedLeakyReLUFunction"])
def test_a_biased_activation_counts_what_its_fallback_does(name):
    x, bias = torch.rand(2, 3, 4, 4), torch.rand(3)
    expected = counted(lambda x, b: functional.leaky_relu(x + b.view(1, 3, 1, 1), 0.2) * 2**0.5, x, bias)[0]
    assert forward(name, x, x, bias, 0.2, 2**0.5).arith == expected
    assert forward(name, x, x, x.new_empty(0), 0.2, 2**0.5).arith == expected - x.numel()


def test_its_gradient_is_a_function_of_its_own_too():
    x, bias = wanting(torch.rand(2, 3, 4, 4), torch.rand(3))
    own = forward("FusedLeakyReLUFunctionBackward", (x, bias), x, x, 0.2, 1.4)
    assert own == backward("FusedLeakyReLUFunction", x, x, bias, 0.2, 1.4)


def focal(meter, x, hit, alpha, gamma, weight):
    p = Number(x, meter).apply(lambda x: 1 / (1 + exp(-x)))
    q = Number(1.0, meter) - p
    term_p = p.apply(log) * q.apply(lambda x: x**gamma) * alpha
    term_n = q.apply(log) * p.apply(lambda x: x**gamma) * (1 - alpha)
    meter.others += 1  # whether the class is the target
    total = term_p * float(hit) + term_n * float(not hit)
    meter.products -= 2  # chosen, not multiplied
    return total * weight if weight is not None else total


@pytest.mark.parametrize("weight", [None, torch.rand(3)])
@pytest.mark.parametrize(("reduction", "more"), [("none", 0), ("mean", 1), ("sum", 1)])
def test_a_focal_loss_counts_its_two_terms(weight, reduction, more):
    torch.manual_seed(0)
    x, target = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    meter, expected = (
        Meter(),
        functional.binary_cross_entropy_with_logits(x, functional.one_hot(target, 3).float(), reduction="none"),
    )
    loss = [
        [focal(meter, x[i, c].item(), target[i] == c, 0.5, 0.0, None if weight is None else weight[target[i]].item())
         for c in range(3)]
        for i in range(4)
    ]  # fmt: skip
    found = -torch.tensor([[n.value for n in row] for row in loss]) * 2
    assert torch.allclose(found, expected * (1 if weight is None else weight[target].unsqueeze(1)), atol=1e-5)
    args, out = (x, target, 0.0, 0.5, weight, reduction), x.sum() if more else x
    assert forward("SigmoidFocalLossFunction", out, *args).arith == meter.operations + more * x.numel()
    each = 5 + (weight is not None) + more
    assert forward("SoftmaxFocalLossFunction", out, *args).arith == 5 * x.numel() + each * len(target)


def test_a_focal_loss_is_reduced_where_it_returns_a_number():
    x, target = torch.rand(4, 3), torch.zeros(4).long()
    name = "SigmoidFocalLossFunction"
    assert forward(name, x.sum(), x, target) == forward(name, x.sum(), x, target, 2.0, 0.25, None, "mean")
    assert forward(name, x, x, target, 2.0, 0.25) == forward(
        name, x, x, target, 2.0, 0.25, None, "none"
    )  # mmdetection 1
    assert backward(name, x, x, target, 2.0, 0.25).arith == 19 * 12
    assert backward(name, x.sum(), x, target, 2.0, 0.25, None, "mean").arith == 20 * 12


@pytest.mark.parametrize("x_grad", [True, False])
@pytest.mark.parametrize("w_grad", [True, False])
def test_a_linear_cross_entropy_makes_its_gradients_at_once(x_grad, w_grad):
    x, weight, target = torch.rand(5, 4), torch.rand(7, 4), torch.zeros(5).long()
    x.requires_grad_(x_grad), weight.requires_grad_(w_grad)
    with OpCounter() as counter:
        loss = functional.cross_entropy(x @ weight.T, target)
        if loss.requires_grad:
            loss.backward()
    cost = forward("LigerFusedLinearCrossEntropyFunction", loss, x, weight, target, None)
    assert (cost.macs, cost.activations) == (counter.macs, counter.activations)
    scaled = backward("LigerFusedLinearCrossEntropyFunction", loss, x, weight, target, None)
    assert scaled == (0, x.numel() * x_grad + weight.numel() * w_grad, 0)


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
