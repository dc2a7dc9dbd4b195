"""The counter as its users hold it."""

import gc
import pickle
import weakref
from dataclasses import fields

import pytest
import torch
from torch import nn

from opcount import OpCounter, Profile
from opcount.errors import ConventionError, CounterStateError

MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 10), nn.Linear(10, 10)

    def forward(self, x):
        return self.fc1(self.fc2(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.inner = nn.Linear(10, 10), nn.Linear(10, 10), Inner()

    def forward(self, x):
        return self.fc1(self.fc2(self.inner(x)))


@pytest.mark.parametrize("mode", MODES)
def test_four_layers_of_ten_by_ten(mode):
    model = Net()
    with MODES[mode](), OpCounter(model) as c:
        model(torch.ones(1, 10))
    assert (c.flops, c.macs, c.params, c.activations) == (400, 400, 440, 40)
    assert {p: t.macs for p, t in c.by_module().items()} == {
        "": 400, "fc1": 100, "fc2": 100, "inner": 200, "inner.fc1": 100, "inner.fc2": 100,
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_convolution_of_ten_by_ten(mode):
    conv = nn.Conv2d(3, 10, 3)
    with MODES[mode](), OpCounter(conv) as c:
        conv(torch.ones(1, 3, 10, 10))
    outputs = 10 * 8 * 8
    assert (c.flops, c.params, c.activations) == (outputs * 3 * 3 * 3, 280, outputs)


class Arguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, *args, batch=None, **kwargs):
        tensors = [*args, *kwargs.values(), *(batch or {}).get("tensors", ())]
        return {"out": [self.fc(t) for t in tensors], "n": len(tensors)}


def test_any_inputs_and_outputs():
    model, x = Arguments(), torch.ones(2, 4)
    with OpCounter(model) as c:
        out = model(x, x, y=x, batch={"tensors": (x, x)})
    assert out["n"] == 5
    assert c.by_module()["fc"].macs == 5 * 2 * 4 * 4
    assert c.profile.modules["fc"].calls == 5


def test_code_without_a_model_has_modules_named_by_their_class():
    a, b = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2))
    with OpCounter() as c:
        b(a(torch.ones(1, 3))) @ torch.ones(2, 5)
    totals = {p: t.macs for p, t in c.by_module().items()}
    assert totals == {"": 9 + 6 + 10, "Linear": 9, "Sequential": 6, "Sequential.0": 6}
    assert c.params == 0


def test_several_forwards_and_several_blocks_accumulate_until_reset():
    model, x = nn.Linear(2, 3), torch.ones(1, 2)
    c = OpCounter(model)
    for _ in range(3):
        with c:
            model(x)
            model(x)
    assert (c.macs, c.profile.modules[""].calls) == (36, 6)
    c.reset()
    assert (c.macs, c.profile.modules[""].calls) == (0, 0)
    with c:
        model(x)
    assert c.macs == 6


def test_it_can_be_read_inside_the_block():
    model, x = nn.Linear(2, 3), torch.ones(1, 2)
    with OpCounter(model) as c:
        assert c.macs == 0
        model(x)
        assert c.macs == 6
        before = c.profile
        model(x)
        assert (before.macs, c.macs) == (6, 12)


def test_pause_and_resume():
    x = torch.ones(2, 2)
    with OpCounter() as c:
        x @ x
        c.pause()
        x @ x
        c.resume()
        x @ x
    assert c.macs == 16


def test_a_region_can_be_named():
    x = torch.ones(2, 2)
    with OpCounter() as c:
        with c.phase("prefill"):
            x @ x
            with c.phase("inner"):
                x @ x
            x @ x
        x @ x
    assert {phase: total.macs for phase, total in c.by_phase().items()} == {"forward": 8, "prefill": 16, "inner": 8}


def test_nested_counters_both_see_what_runs():
    x = torch.ones(2, 2)
    with OpCounter() as outer:
        x @ x
        with OpCounter() as inner:
            x @ x
        x @ x
    assert (outer.macs, inner.macs) == (24, 8)


def test_outputs_and_gradients_are_the_same_bits():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)
    )
    x = torch.randn(2, 2, 6, 6)

    def step():
        torch.manual_seed(0)
        model.zero_grad()
        out = model(x)
        out.square().sum().backward()
        return [out.detach().clone(), *(p.grad.clone() for p in model.parameters()), torch.rand(1)]

    bare = step()
    with OpCounter(model):
        counted = step()
    assert all(map(torch.equal, bare, counted))


def test_the_model_can_be_pickled_inside_the_block():
    model = Net()
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    with OpCounter(model):
        model(torch.ones(1, 10))
        copied = pickle.loads(pickle.dumps(model))  # noqa: S301
        assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert torch.equal(copied.fc1.weight, model.fc1.weight)


def test_an_exception_passes_and_what_ran_before_is_counted():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3))
    c = OpCounter(model)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), c:
        model(torch.ones(1, 2))
    assert c.macs == 4


def test_a_profile_holds_neither_tensors_nor_modules():
    model = nn.Linear(2, 2)
    with OpCounter(model) as c:
        model(torch.ones(1, 2))
    profile, alive = c.profile, weakref.ref(model)
    del model, c
    gc.collect()
    assert alive() is None
    assert profile.macs == 4


def test_provenance_says_where_a_count_comes_from():
    with torch.inference_mode(), OpCounter(nn.Linear(2, 2).eval()) as c:
        pass
    facts = c.profile.provenance
    assert facts["torch"] == torch.__version__
    assert (facts["model"], facts["mode"], facts["grad"], facts["run"], facts["device"]) == (
        "Linear", "eval", "inference_mode", "real", "cpu",
    )  # fmt: skip


def test_misuse_is_told():
    c = OpCounter()
    with pytest.raises(CounterStateError, match="nothing was counted yet"):
        _ = c.flops
    with pytest.raises(CounterStateError, match="Call it inside the `with` block"):
        c.pause()
    with pytest.raises(CounterStateError, match="Enter it with"):
        c.__exit__(None, None, None)
    with c, pytest.raises(CounterStateError, match="is counting already"):
        c.__enter__()
    with pytest.raises(TypeError, match=r"expected an nn\.Module or None, got <built-in"):
        OpCounter(torch.relu)
    with pytest.raises(ConventionError, match="got 'fvcor'"):
        OpCounter(convention="fvcor")
    with c, pytest.raises(ValueError, match="expected a name, got ''"), c.phase(""):
        pass


def test_it_offers_what_its_profile_offers():
    model = Net()
    with OpCounter(model) as c:
        model(torch.ones(1, 10))
    constructors, data = {"from_json"}, {field.name for field in fields(Profile)}
    offered = {name for name in vars(Profile) if not name.startswith("_")} - constructors - data
    internal = {"amount", "check_traffic", "columns", "knows_traffic", "read"}
    assert offered - internal <= set(dir(c))
    p = c.profile
    assert c.total == p.total
    assert c.by_family() == p.by_family()
    assert c.explain("inner.fc1") == p.explain("inner.fc1")
    assert c.diff(p).changed == ()
    assert Profile.from_json(c.to_json(indent=1)).total == p.total
    assert c.with_convention("torch").flops == 800  # two FLOPs for each of the 400 MACs
    assert c.select(lambda record: record.path == "fc1").macs == 100  # of ten by ten
    assert c.by_module.__doc__ == Profile.by_module.__doc__


def test_it_prints_as_its_table():
    c = OpCounter()
    assert str(c) == "OpCounter: nothing was counted yet"
    with c:
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert "total: 8 MAC = 16 FLOP at 2 per MAC" in str(c)
