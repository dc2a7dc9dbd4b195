"""Models that are no plain Python: scripted, traced, frozen, exported, rewritten by fx, in oneDNN's layout."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from opcount import OpCounter, get_model_complexity_info
from opcount.compat.fvcore import FlopCountAnalysis, flop_count_str, flop_count_table
from opcount.compat.mmengine import parameter_count_table
from opcount.compat.preserve import preserved

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta:UserWarning"),
]

BODY = 8 * 3 * 9 * 6 * 6
"""MACs of the convolution on an image of 8 x 8."""

HEAD = 8 * 6 * 6 * 5


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 5)).eval()


def image():
    return torch.ones(1, 3, 8, 8)


class Holds(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.tail = nn.Linear(5, 2)

    def forward(self, x):
        return self.tail(self.inner(x))


class Blocked(nn.Module):
    """Runs in oneDNN's layout, which its modules keep their weights in."""

    def __init__(self):
        super().__init__()
        from torch.utils.mkldnn import to_mkldnn  # noqa: PLC0415  (it warns of itself)

        self.net = to_mkldnn(net())

    def forward(self, x):
        return self.net(x.to_mkldnn()).to_dense()


def stored(script):
    file = io.BytesIO()
    torch.jit.save(script, file)
    file.seek(0)
    return torch.jit.load(file)


def frozen():
    return torch.jit.freeze(torch.jit.script(net()))


FORMS = {
    "scripted": lambda: torch.jit.script(net()),
    "traced": lambda: torch.jit.trace(net(), image()),
    "frozen": frozen,
    "frozen and stored": lambda: stored(frozen()),
    "exported": lambda: torch.export.export(net(), (image(),)).module(),
    "rewritten by fx": lambda: torch.fx.symbolic_trace(net()),
    "in another layout": Blocked,
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_count_takes_a_model_in_any_form(form, held):
    macs = BODY + HEAD + held * 5 * 2
    make = (lambda: Holds(FORMS[form]())) if held else FORMS[form]
    with torch.no_grad():
        info = get_model_complexity_info(make(), inputs=image())
        assert (info["flops"], info["activations"]) == (macs, 8 * 6 * 6 + 5 + held * 2)
        model = make()
        flops = FlopCountAnalysis(model, image())
        assert flops.total() == macs
        assert flop_count_table(flops)
        assert flop_count_str(flops)
        assert parameter_count_table(model)
        with OpCounter(model) as c:
            model(image())
    assert c.macs == macs
    assert str(c)


@pytest.mark.parametrize("form", ["scripted", "frozen", "exported"])
def test_a_model_in_another_form_is_left_as_it_was(form):
    model = FORMS[form]()
    before = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    training = getattr(model, "training", None)
    get_model_complexity_info(model, inputs=image())
    assert getattr(model, "training", None) is training
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0] or form == "scripted"  # a script makes them anew for each who asks
        assert torch.equal(tensor, before[name][1])


LAYOUTS = {
    "coo": torch.Tensor.to_sparse,
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
    "bsr": lambda t: t.to_sparse_bsr((2, 2)),
    "bsc": lambda t: t.to_sparse_bsc((2, 2)),
    "mkldnn": torch.Tensor.to_mkldnn,
    "strided": torch.Tensor.clone,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_buffer_of_any_layout_gets_its_values_back_and_is_written_to_only_if_they_changed(layout):
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("held", LAYOUTS[layout](torch.eye(4)))

        def forward(self):
            pass

    owner = Owner()
    version = owner.held._version
    with preserved(owner):
        owner()
    assert owner.held._version == version  # a graph that saved it is still good
    with preserved(owner):
        owner.held.mul_(2)
    values = owner.held if layout == "strided" else owner.held.to_dense()
    assert torch.equal(values, torch.eye(4))


def test_a_module_that_cannot_be_put_back_does_not_keep_the_others_from_it():
    class Stubborn(nn.Module):
        def __setattr__(self, name, value):
            if name == "training" and value and "_parameters" in vars(self):
                raise AttributeError("on purpose")
            super().__setattr__(name, value)

    model = nn.Sequential(nn.Linear(2, 2), Stubborn(), nn.Linear(2, 2))

    def change_mode(*, training):
        for module in model:
            vars(module)["training"] = training

    change_mode(training=True)
    with pytest.raises(AttributeError, match="on purpose"), preserved(model):
        change_mode(training=False)
    assert [module.training for module in model] == [True, False, True]
