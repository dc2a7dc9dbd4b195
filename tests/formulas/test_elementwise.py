"""Elementwise operators: a fused one counts what its steps do, and so do softmax, norms and losses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.formulas.seen import arith

aten = torch.ops.aten
X = torch.rand(4, 8)
N = X.numel()


def softmax(x):
    shifted = torch.exp(x - x.amax(1, keepdim=True))
    total = shifted.sum(1, keepdim=True)
    return shifted / total


@pytest.mark.parametrize(
    ("fused", "steps"),
    [
        (lambda x: torch.add(x, x, alpha=2), lambda x: x + 2 * x),
        (lambda x: torch.sub(x, x, alpha=2), lambda x: x - 2 * x),
        (lambda x: torch.add(x, x), lambda x: x + x),
        (lambda x: torch.addcmul(x, x, x), lambda x: x + x * x),
        (lambda x: torch.addcmul(x, x, x, value=3), lambda x: x + 3 * x * x),
        (lambda x: torch.addcdiv(x, x, x, value=3), lambda x: x + 3 * x / x),
        (lambda x: torch.lerp(x, x, 0.5), lambda x: x + 0.5 * (x - x)),
        (lambda x: aten.sigmoid_backward(x, x), lambda x: x * x * (1 - x)),
        (lambda x: aten.tanh_backward(x, x), lambda x: x * (1 - x * x)),
        (lambda x: torch.polar(x, x), lambda x: torch.complex(x * torch.cos(x), x * torch.sin(x))),
        (lambda x: torch._foreach_add([x, x], 1.0), lambda x: (x + 1, x + 1)),
        (lambda x: torch._foreach_addcmul([x], [x], [x], value=3), lambda x: x + 3 * x * x),
        (lambda x: torch._foreach_norm([x, x]), lambda x: (x.norm(), x.norm())),
        (lambda x: torch.softmax(x, 1), softmax),
        (
            lambda x: aten._softmax_backward_data(x, x, 1, torch.float32),
            lambda x: x * (x - (x * x).sum(1, keepdim=True)),
        ),
        (lambda x: functional.mse_loss(x, x + 0), lambda x: ((x - (x + 0)) ** 2).mean()),
        (lambda x: functional.mse_loss(x, x, reduction="none"), lambda x: (x - x) ** 2),
        (lambda x: torch.dist(x, x), lambda x: torch.norm(x - x)),
        (torch.aminmax, torch.amax),
    ],
)
def test_a_fused_operator_counts_what_its_steps_do(fused, steps):
    assert arith(fused, X) == arith(steps, X)


def test_glu_is_a_sigmoid_and_a_product():
    a, b = X.chunk(2, 1)
    assert arith(functional.glu, X) == arith(lambda: a * torch.sigmoid(b))


def test_dropout_multiplies_twice_and_draws_for_nothing():
    assert arith(aten.native_dropout, X, 0.5, True) == 2 * N  # by the mask, by the scale
    assert arith(aten.native_dropout, X, 0.5, False) == 0
