"""Behaviour that the analyzers of both drop-ins share: for mmengine.analysis and for fvcore.nn."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from opcount import get_model_complexity_info
from opcount.compat import fvcore, mmengine
from tests.modules import Calls

ANALYZERS = {
    "fvcore": (fvcore.FlopCountAnalysis, fvcore.ActivationCountAnalysis),
    "mmengine": (mmengine.FlopAnalyzer, mmengine.ActivationAnalyzer),
}
flops_and_activations = pytest.mark.parametrize(("flops_of", "activations_of"), ANALYZERS.values(), ids=ANALYZERS)


class Noisy(nn.Module):
    """Changes all that a forward can change, and raises if it is told to."""

    def __init__(self, *, fails=False):
        super().__init__()
        self.fails = fails
        self.calls = 0
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout()
        self.register_buffer("steps", torch.zeros(2))
        self.register_buffer("cache", None)
        self.register_buffer("mask", torch.ones(3), persistent=False)

    def forward(self, x):
        self.calls += 1
        x = self.drop(self.norm(self.conv(x))) * random.random() * np.random.rand()  # noqa: NPY002
        self.steps += 1
        self.cache = x.detach()
        self.mask = torch.zeros(5)
        self.register_buffer("late", torch.ones(1), persistent=False)
        self.norm.eval()
        self.drop.train()
        if self.fails:
            raise KeyError("on purpose")
        return x


def state(model):
    """Return everything about a model and the generators that a count could disturb."""
    return {
        "contents": {k: v.tolist() for k, v in model.state_dict().items()},
        "buffers": [(name, id(buffer)) for module in model.modules() for name, buffer in module._buffers.items()],
        "transient": [sorted(module._non_persistent_buffers_set) for module in model.modules()],
        "modes": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "cpu": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
    }


IMAGES = torch.ones(2, 3, 8, 8)
WAYS = {
    "a shape": lambda model: get_model_complexity_info(model, (3, 8, 8))["flops"] * 2,
    "inputs": lambda model: get_model_complexity_info(model, inputs=IMAGES)["flops"],
    "an analysis": lambda model: (
        fvcore.FlopCountAnalysis(model, IMAGES).unsupported_ops_warnings(enabled=False).total()
    ),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_the_model_runs_once_and_nothing_of_it_is_changed(train, fails, way):
    model = Noisy(fails=fails).train(train)
    model.conv(torch.ones(1, 3, 8, 8)).sum().backward()
    model.mask = torch.full((3,), float("nan"))
    before = state(model)
    if fails:
        with pytest.raises(KeyError, match="on purpose"):
            WAYS[way](model)
    else:
        outputs = 2 * 4 * 6 * 6
        assert WAYS[way](model) == outputs * 3 * 3 * 3 + (5 if train else 2) * outputs
    assert model.calls == 1
    assert state(model) == before


def gelus(inputs, outputs):
    """Price a GELU, and look at all that a handle may ask."""
    assert outputs[0].isCompleteTensor()
    assert outputs[0].type().scalarType() == "Float"
    assert inputs[0].type().dtype() is torch.float32
    assert inputs[0].type().kind() == "TensorType"
    assert inputs[1].toIValue() == "none"  # a default, which a traced graph shows too
    return inputs[0].type().sizes()[-1] * outputs[0].type().sizes()[0]


@flops_and_activations
def test_a_handle_prices_an_operator_under_its_name(flops_of, activations_of):
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU())
    flops = flops_of(model, torch.ones(2, 3)).set_op_handle("aten::gelu", gelus)
    assert flops.by_operator() == {"linear": 2 * 3 * 5, "gelu": 5 * 2}
    assert flops.by_module_and_operator() == {
        "": Counter({"linear": 30, "gelu": 10}),
        "0": Counter({"linear": 30}),
        "1": Counter({"gelu": 10}),
    }
    assert flops.unsupported_ops() == {}
    soft = {"aten::gelu": lambda i, o: Counter({"soft": gelus(i, o)})}
    acts = activations_of(model, torch.ones(2, 3)).set_op_handle(**soft)
    assert acts.by_operator() == {"linear": 10, "soft": 10}
    assert acts.clear_op_handles().by_operator() == {}  # the built-in ones are forgotten, too


@flops_and_activations
def test_a_name_without_a_handle_is_a_type_error(flops_of, activations_of):
    for kind in (flops_of, activations_of):
        with pytest.raises(TypeError, match=r"expected pairs .* got 1 arguments"):
            kind(nn.ReLU(), torch.ones(1)).set_op_handle("aten::relu")


@flops_and_activations
@pytest.mark.parametrize("setting", ["ancestor_mode", "tracer_warnings"])
def test_an_unknown_mode_is_a_value_error(flops_of, activations_of, setting):
    for kind in (flops_of, activations_of):
        analysis = kind(nn.ReLU(), torch.ones(1))
        assert analysis.tracer_warnings("none").ancestor_mode("caller") is analysis
        with pytest.raises(ValueError, match=rf"{setting}: expected '.*' or '.*', got 'x' of type str"):
            getattr(analysis, setting)("x")


@flops_and_activations
def test_what_is_no_module_is_a_type_error(flops_of, activations_of):
    for kind in (flops_of, activations_of):
        with pytest.raises(TypeError, match=rf"{kind.__name__}: expected an nn.Module, got .* of type function"):
            kind(lambda x: x, torch.ones(1))
    with pytest.raises(TypeError, match=r"FlopAnalyzer: expected an nn.Module, got .* of type function"):
        get_model_complexity_info(lambda x: x, inputs=torch.ones(1))


@flops_and_activations
def test_a_shared_module_goes_by_its_first_name(flops_of, activations_of):
    shared, once = nn.Linear(3, 3), nn.Linear(3, 5)
    model = nn.Sequential(shared, nn.Sequential(shared), once)
    for kind, each, last in ((flops_of, 9, 15), (activations_of, 3, 5)):
        analysis = kind(model, torch.ones(1, 3))
        assert analysis.canonical_module_name("1.0") == "0"
        assert analysis.total("1.0") == analysis.total("0") == 2 * each
        assert analysis.ancestor_mode("caller").by_module() == {
            "": 2 * each + last,
            "0": 2 * each,
            "1": each,
            "2": last,
        }
        with pytest.raises(KeyError, match=r"expected the name of a module of the model, got '3'"):
            analysis.total("3")
        with pytest.raises(AssertionError, match=r"expected the name of a module of the model, got Linear"):
            analysis.total(once)


@flops_and_activations
def test_a_wrapper_has_the_numbers_of_what_it_wraps(flops_of, activations_of):
    model = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU()))
    for kind, count in ((flops_of, 3000), (activations_of, 1000)):
        analysis = kind(model, (torch.ones(1, 3, 10, 10),))
        assert analysis.by_module() == {"": count, "module": count, "module.0": count, "module.1": 0}
        assert analysis.uncalled_modules() == set()


@flops_and_activations
def test_an_operator_that_nothing_explains_is_unsupported(flops_of, activations_of):
    with torch.library._scoped_library("opcount_analyzers_test", "DEF") as library:
        library.define("opaque(Tensor x) -> Tensor")
        library.impl("opaque", lambda x: torch.from_numpy(x.detach().numpy() * 2), "CPU")
        for kind in (flops_of, activations_of):
            analysis = kind(Calls(lambda _, x: torch.ops.opcount_analyzers_test.opaque(x)), torch.ones(3))
            assert analysis.unsupported_ops_warnings(enabled=False).total() == 0
            assert analysis.unsupported_ops() == {"opcount_analyzers_test::opaque": 1}
            analysis.set_op_handle("opcount_analyzers_test::opaque", lambda i, o: 4)
            assert analysis.by_operator() == {"opaque": 4}
