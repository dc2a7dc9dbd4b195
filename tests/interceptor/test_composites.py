"""Formulas for composite operators, which PyTorch shows under inference_mode alone, are refused in every mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import Cost, OpCounter, formula
from opcount.errors import FormulaError
from opcount.interceptor.composites import is_always_composite, refuse_composites
from opcount.registry import USER

MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)
COMPOSITE = """
linear matmul conv1d conv2d conv3d conv_transpose2d einsum bilinear tensordot layer_norm batch_norm group_norm dropout
instance_norm lstm.input gru.input rnn_tanh.input lstm_cell gru_cell scaled_dot_product_attention softmax log_softmax
cross_entropy_loss cosine_similarity fft_fft outer kron multi_margin_loss max_pool1d max_pool2d adaptive_avg_pool2d
""".replace("multi_margin_loss", "").split()
NOT_COMPOSITE = "mm addmm bmm convolution native_layer_norm native_batch_norm embedding add max softmax.int_out".split()


def one(_out, *_args, **_kwargs):
    return Cost(macs=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", COMPOSITE)
def test_a_formula_for_a_composite_operator_is_refused(name, mode):
    for value in (one, None):
        with mode(), pytest.raises(FormulaError, match=rf"'aten\.{name}'.*nn\.Module class"):
            OpCounter(formulas={f"aten::{name}": value})


@pytest.mark.parametrize("target", [torch.ops.aten.linear, torch.ops.aten.linear.default, "aten.linear"])
def test_it_is_refused_however_it_is_given(target):
    with pytest.raises(FormulaError, match="composite"):
        OpCounter(formulas={target: one})


def test_a_formula_for_everybody_is_refused_when_a_counter_is_made(monkeypatch):
    monkeypatch.setattr(USER, "_formulas", dict(USER.targets()))
    formula("aten.einsum")(one)
    with pytest.raises(FormulaError, match=r"aten\.einsum"):
        OpCounter()


@pytest.mark.parametrize("name", NOT_COMPOSITE)
def test_what_a_counter_meets_in_every_mode_is_not_refused(name):
    refuse_composites([f"aten.{name}", "mylib.no_such_operator", nn.Linear])


@pytest.mark.parametrize("formulas", [{"aten.addmm": one}, {nn.Linear: one}])
def test_what_the_error_advises_counts_the_same_in_every_mode(formulas):
    model, counts = nn.Linear(3, 4), []
    for mode in MODES:
        with mode(), OpCounter(formulas=formulas) as counter:
            model(torch.ones(2, 3))
        counts.append(counter.macs)
    assert counts == [1, 1, 1]


def test_a_packet_with_some_composite_overloads_is_asked_alike_in_every_mode():
    x, counts = torch.arange(6.0).reshape(2, 3), []
    assert not is_always_composite(torch.ops.aten.max)
    for mode in MODES:
        with mode(), OpCounter(formulas={"aten.max": one}) as counter:
            torch.max(x, x)  # aten.maximum, whoever called it
            torch.max(x)
        counts.append(counter.macs)
    assert counts == [1, 1, 1]
