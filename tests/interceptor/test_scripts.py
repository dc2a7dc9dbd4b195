"""Kernels that only TorchScript's interpreter runs are named: no dispatch mode sees them."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from opcount import OpCounter, get_model_complexity_info
from opcount.compat.fvcore import FlopCountAnalysis
from opcount.errors import UncountedOperatorError, UncountedOperatorWarning

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
X = torch.ones(1, 3, 8, 8)


@pytest.fixture
def optimized():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2)).eval()
    return torch.jit.optimize_for_inference(torch.jit.script(model))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_convolution_of_an_optimized_script_is_named_at_each_call(optimized, mode):
    counter = OpCounter(optimized)
    for warned in (pytest.warns(UncountedOperatorWarning, match="lower bound"), contextlib.nullcontext()):
        with mode(), warned, counter:
            optimized(X)
    assert {name: share.calls for name, share in counter.coverage.uncounted.items()} == {"prim.mkldnn_convolution": 4}
    assert counter.macs == 2 * 64 * 2  # the linear layer is an operator


def test_it_is_named_where_the_script_is_a_part(optimized):
    model = nn.Sequential(optimized, nn.Linear(2, 5))
    with pytest.warns(UncountedOperatorWarning), OpCounter(model) as counter:
        model(X)
    [record] = [r for r in counter.profile.records if r.operator == "prim.mkldnn_convolution"]
    assert (record.stack, record.phase, record.calls) == (("", "0"), "forward", 2)
    assert counter.macs == 64 * 2 + 2 * 5


def test_strict_counts_refuse_it(optimized):
    with pytest.raises(UncountedOperatorError, match=r"prim\.mkldnn_convolution"), OpCounter(strict=True):
        optimized(X)


def test_a_counter_that_is_paused_does_not_name_it(optimized):
    with OpCounter(optimized) as counter:
        counter.pause()
        optimized(X)
        counter.resume()
        torch.ones(1) + 1
    assert not counter.coverage.uncounted


def test_the_drop_ins_name_it(optimized):
    analysis = FlopCountAnalysis(optimized, X)
    analysis.total()
    assert analysis.unsupported_ops()["prim::mkldnn_convolution"] == 2
    with pytest.warns(UncountedOperatorWarning, match="mkldnn_convolution"):
        get_model_complexity_info(optimized, inputs=(X,))


def test_a_script_whose_steps_are_operators_names_nothing():
    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    with OpCounter(script, strict=True) as counter:
        script(X)
    assert counter.macs == 4 * 36 * 27
