"""Fused gates, rotary embeddings and activations: as the operators of PyTorch that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.formulas.functions import backward, both, counted, forward, wanting


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
