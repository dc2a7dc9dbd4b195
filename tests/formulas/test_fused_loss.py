"""Fused losses, against their definition on numbers that count, and against the operators of PyTorch."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch.nn import functional

from opcount import OpCounter
from tests.formulas.functions import backward, forward
from tests.formulas.oracle import Meter, Number


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
