"""Fused linear layers: the products that PyTorch runs for the same."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opcount import Cost, OpCounter
from opcount.errors import FormulaError
from tests.formulas.functions import backward, count, forward, stand_in, wanting

IN, HIDDEN, OUT = 4, 6, 3


def tensors(grads="xwbvc"):
    made = {"x": torch.rand(2, 5, IN), "w": torch.rand(HIDDEN, IN), "b": torch.rand(HIDDEN)}
    made |= {"v": torch.rand(OUT, HIDDEN), "c": torch.rand(OUT)}
    return [tensor.requires_grad_(name in grads) for name, tensor in made.items()]


def counted(function):
    with OpCounter() as counter:
        out = function()
        forward_cost = counter.macs
        if out.requires_grad:
            out.backward(torch.ones_like(out))
    return forward_cost, counter.macs - forward_cost, counter.activations


@pytest.mark.parametrize("grads", ["xwb", "x", "w", "b", ""])
def test_a_linear_layer_counts_what_pytorch_does(grads):
    x, w, b, *_ = tensors(grads)
    once, twice, outputs = counted(lambda: functional.linear(x, w, b))
    assert forward("FusedDenseFunc", None, x, w, b) == (once, 2 * 5 * HIDDEN, outputs)
    assert backward("FusedDenseFunc", None, x, w, b) == (twice, 2 * 5 * HIDDEN * ("b" in grads), 0)
    assert forward("FusedDenseFunc", None, x, w, None, False, None, True) == (once, 0, outputs)


@pytest.mark.parametrize("grads", ["xwbvc", "wbvc", "vc", "x"])
@pytest.mark.parametrize("name", ["FusedDenseGeluDenseFunc", "FusedMLPFunc"])
def test_two_layers_count_what_pytorch_does(name, grads):
    x, w, b, v, c = tensors(grads)
    once, twice, outputs = counted(lambda: functional.linear(functional.gelu(functional.linear(x, w, b)), v, c))
    cost = forward(name, None, x, w, b, v, c)
    assert (cost.macs, cost.activations) == (once, outputs)
    assert cost.arith == 2 * 5 * (2 * HIDDEN + OUT)
    assert backward(name, None, x, w, b, v, c).macs == twice


def test_hidden_elements_are_made_anew_as_the_level_says():
    args = tensors()
    options = ("gelu_approx", True, False)
    none, act, all_of_it = (backward("FusedMLPFunc", None, *args, *options, level) for level in range(3))
    hidden = 2 * 5 * HIDDEN
    assert act == none + Cost(0, hidden)
    assert all_of_it == act + Cost(hidden * IN, hidden)


@pytest.mark.parametrize("grads", ["xwbvc", "wbvc", "vc"])
def test_a_stack_of_layers_has_its_weights_before_its_biases(grads):
    x, w, b, v, c = tensors(grads)
    once, twice, outputs = counted(
        lambda: functional.linear(functional.linear(x, w, b).relu(), v, c).relu(),
    )
    cost = forward("MlpFunction", None, 1, 1, x, w, v, b, c)
    assert (cost.macs, cost.activations) == (once, outputs)
    assert cost.arith == 2 * 2 * 5 * (HIDDEN + OUT)
    assert backward("MlpFunction", None, 1, 1, x, w, v, b, c).macs == twice
    assert forward("MlpFunction", None, 0, 0, x, w, v) == (once, 0, outputs)
    with pytest.raises(FormulaError):
        forward("MlpFunction", None, 1, 1, x, w, b, v, c)


def test_a_call_is_counted_forward_and_backward():
    x, w, b, *_ = wanting(*tensors())
    function = stand_in("FusedDenseFunc", lambda x, w, b: (*x.shape[:-1], w.shape[0]), {0, 1, 2})
    by = count(function, x, w, b).by_operator()
    macs = 2 * 5 * IN * HIDDEN
    assert (by["autograd.FusedDenseFunc"].macs, by["autograd.FusedDenseFuncBackward"].macs) == (macs, 2 * macs)
