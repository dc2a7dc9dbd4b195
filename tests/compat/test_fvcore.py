"""The drop-in for fvcore.nn: programs written for fvcore, and where the numbers are meant to differ."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount import Cost, OpCounter
from opcount.compat import fvcore as ours
from opcount.compat.fvcore import ActivationCountAnalysis, FlopCountAnalysis
from tests.compat.test_analyzers import gelus
from tests.modules import Calls

LOGGER = "fvcore.nn.jit_analysis"


class Small(nn.Module):
    """A 1 x 1 convolution of ten channels, an activation and a linear layer."""

    def __init__(self):
        super().__init__()
        self.fc, self.conv, self.act = nn.Linear(1000, 10), nn.Conv2d(3, 10, 1), nn.ReLU()

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).flatten(1))


IMAGE = torch.ones(1, 3, 10, 10)


def flops_of(function, *inputs):
    return FlopCountAnalysis(Calls(lambda _, *args: function(*args)), inputs).by_operator()


def acts_of(function, *inputs):
    return ActivationCountAnalysis(Calls(lambda _, *args: function(*args)), inputs).by_operator()


def test_a_count_is_asked_by_module_and_by_operator():
    flops, acts = FlopCountAnalysis(Small(), (IMAGE,)), ActivationCountAnalysis(Small(), IMAGE)
    assert flops.total() == 100 * 3 * 10 + 1000 * 10
    assert flops.total("fc") == 10000
    assert flops.by_operator() == Counter({"linear": 10000, "conv": 3000})
    assert flops.by_module() == Counter({"": 13000, "fc": 10000, "conv": 3000, "act": 0})
    assert flops.by_module_and_operator() == {
        "": Counter({"linear": 10000, "conv": 3000}),
        "fc": Counter({"linear": 10000}),
        "conv": Counter({"conv": 3000}),
        "act": Counter(),
    }
    assert acts.by_module() == {"": 1010, "fc": 10, "conv": 1000, "act": 0}
    assert flops.unsupported_ops() == acts.unsupported_ops() == {}
    assert flops.uncalled_modules() == set()


def test_tables_stand_between_pipes():
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 50))
    flops, acts = FlopCountAnalysis(model, torch.ones(1, 10)), ActivationCountAnalysis(model, torch.ones(1, 10))
    assert ours.flop_count_table(flops, activations=acts).split("\n") == [
        "| module     | #parameters or shape   | #flops   |   #activations |",
        "|:-----------|:-----------------------|:---------|---------------:|",
        "| model      | 0.66K                  | 0.6K     |             60 |",
        "|  0         |  0.11K                 |  100     |             10 |",
        "|   0.weight |   (10, 10)             |          |                |",
        "|   0.bias   |   (10,)                |          |                |",
        "|  2         |  0.55K                 |  0.5K    |             50 |",
        "|   2.weight |   (50, 10)             |          |                |",
        "|   2.bias   |   (50,)                |          |                |",
    ]
    assert ours.parameter_count_table(nn.Linear(10, 10)).split("\n") == [
        "| name    | #elements or shape   |",
        "|:--------|:---------------------|",
        "| model   | 0.1K                 |",
        "|  weight |  (10, 10)            |",
        "|  bias   |  (10,)               |",
    ]


def test_texts_switch_the_warnings_of_the_analyses_off(caplog):
    model = Calls(lambda m, x: m.used(x) + 1, used=nn.Linear(3, 3), unused=nn.Linear(3, 3))
    flops, acts = FlopCountAnalysis(model, torch.ones(1, 3)), ActivationCountAnalysis(model, torch.ones(1, 3))
    text = ours.flop_count_str(flops, acts)
    assert text.startswith("N/A indicates a possibly missing statistic")
    assert "#params: 12, #flops: N/A, #acts: N/A" in text
    assert "#params: 24, #flops: 9, #acts: 3" in text
    assert ours.flop_count_table(flops, activations=acts)
    assert not caplog.messages


def test_counts_by_operator_come_in_giga_and_mega():
    giga, unsupported = ours.flop_count(nn.Sequential(nn.Linear(5, 4), nn.Sigmoid()), (torch.ones(10, 5),))
    assert (giga, unsupported) == ({"linear": 200 / 1e9}, Counter({"aten::sigmoid": 1}))
    assert giga["missing"] == 0.0
    mega, _ = ours.activation_count(
        nn.Conv2d(3, 8, 1), (IMAGE,), {"aten::_convolution": lambda i, o: Counter({"conv": 100})}
    )
    assert mega == {"conv": 100 / 1e6}


def test_parameters_are_counted_by_module_and_name():
    assert ours.parameter_count(nn.Sequential(nn.Linear(2, 3))) == {"": 9, "0": 9, "0.weight": 6, "0.bias": 3}


@pytest.mark.parametrize(
    ("function", "shapes", "operator", "flops", "activations"),
    [
        (torch.matmul, [(20, 10), (10, 100)], "matmul", 20 * 10 * 100, 20 * 100),
        (torch.matmul, [(2, 2, 20, 10), (2, 2, 10, 5)], "matmul", 4 * 20 * 10 * 5, 4 * 20 * 5),
        (torch.matmul, [(2, 20, 10), (10, 5)], "matmul", 2 * 20 * 10 * 5, 2 * 20 * 5),
        (torch.bmm, [(2, 5, 2), (2, 2, 12)], "bmm", 2 * 5 * 2 * 12, 2 * 5 * 12),
        (torch.mm, [(3, 4), (4, 5)], "mm", 60, 15),
        (torch.addmm, [(3, 5), (3, 4), (4, 5)], "addmm", 60, 15),
        (F.linear, [(5, 6, 8), (4, 8), (4,)], "linear", 5 * 6 * 8 * 4, 5 * 6 * 4),
        (F.linear, [(5, 8), (4, 8)], "linear", 5 * 8 * 4, 5 * 4),
        (lambda x, y: torch.einsum("nct,ncp->ntp", x, y), [(1, 5, 2), (1, 5, 12)], "einsum", 120, 24),
        (lambda x, y: torch.einsum("ntg,ncg->nct", x, y), [(1, 2, 6), (1, 5, 6)], "einsum", 60, 10),
        (lambda x, y: torch.einsum("nc,nchw->hw", x, y), [(3, 4), (3, 4, 2, 3)], "einsum", 72, 6),
    ],
)
def test_a_product_goes_by_the_function_that_was_called(function, shapes, operator, flops, activations):
    inputs = [torch.ones(shape) for shape in shapes]
    for grad in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with grad():
            assert flops_of(function, *inputs) == {operator: flops}
            assert acts_of(function, *inputs) == {operator: activations}


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.BatchNorm1d(10, affine=False).eval(), (10, 10), {"batch_norm": 100}),
        (nn.BatchNorm2d(10).eval(), (10, 10, 5, 5), {"batch_norm": 2 * 2500}),
        (nn.BatchNorm2d(10, affine=False), (10, 10, 5, 5), {"batch_norm": 4 * 2500}),
        (nn.BatchNorm3d(10), (2, 10, 5, 5, 5), {"batch_norm": 5 * 2500}),
        (nn.GroupNorm(2, 2), (2, 2, 2, 2), {"group_norm": 5 * 16}),
        (nn.LayerNorm(4, elementwise_affine=False), (2, 4), {"layer_norm": 4 * 8}),
        (nn.InstanceNorm2d(2, track_running_stats=True).eval(), (2, 2, 2, 2), {"instance_norm": 4 * 16}),
        (nn.InstanceNorm2d(2, affine=True), (2, 2, 2, 2), {"instance_norm": 5 * 16}),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (2, 2, 2, 2), {"upsample_bilinear2d": 4 * 64}),
        (nn.Upsample(scale_factor=2), (2, 2, 2, 2), {"upsample_nearest2d": 64}),
        (nn.AdaptiveAvgPool2d(1), (4, 5, 10, 10), {"adaptive_avg_pool2d": 2000}),
        (nn.ConvTranspose2d(10, 3, 3, stride=3, output_padding=2), (5, 10, 15, 15), {"conv": 5 * 225 * 10 * 3 * 9}),
        (nn.Conv1d(8, 4, 3, groups=4), (2, 8, 10), {"conv": 2 * 8 * 4 * 2 * 3}),
    ],
)
def test_what_is_no_product_counts_as_fvcore_says(module, shape, flops):
    assert FlopCountAnalysis(module, torch.ones(shape)).by_operator() == flops
    if "conv" not in flops:
        assert ActivationCountAnalysis(module, torch.ones(shape)).total() == 0


def test_the_mean_of_an_image_is_no_pooling():
    assert flops_of(lambda x: x.mean([-1, -2], keepdim=True), IMAGE) == {}


# Where fvcore's numbers are wrong.


def test_work_counts_whose_result_nobody_uses():
    assert flops_of(lambda x: (x @ x, x + 1)[1], torch.ones(3, 3)) == {"matmul": 27}


def test_a_matrix_times_a_batch_of_matrices_counts_them_all():
    assert flops_of(torch.matmul, torch.ones(2, 3), torch.ones(5, 3, 4)) == {"matmul": 5 * 2 * 3 * 4}
    assert flops_of(torch.matmul, torch.ones(2, 3), torch.ones(3)) == {"matmul": 6}


def test_an_outer_product_adds_nothing_up():
    inputs = torch.ones(4), torch.ones(6)
    assert flops_of(lambda x, y: torch.einsum("i,j->ij", x, y), *inputs) == flops_of(torch.outer, *inputs) == {}
    assert acts_of(lambda x, y: torch.einsum("i,j->ij", x, y), *inputs) == {"einsum": 24}


def test_an_image_without_a_batch_counts_as_one_with_it():
    assert FlopCountAnalysis(nn.Conv2d(3, 10, 1), IMAGE[0]).by_operator() == {"conv": 3000}


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.Conv2d(4, 4, 3, padding="same"), (2, 4, 6, 6), {"conv": 72 * 4 * 36}),
        (nn.LSTM(6, 6), (3, 2, 6), {"lstm": 3 * 2 * 4 * 6 * 12}),
        (
            Calls(lambda _, x: F.scaled_dot_product_attention(x, x, x)),
            (2, 2, 3, 5),
            {"scaled_dot_product_attention": 2 * 2 * 3 * 3 * 10},
        ),
        (Calls(lambda _, x: torch.baddbmm(x, x, x)), (2, 3, 3), {"baddbmm": 54}),
        (nn.Bilinear(2, 3, 4), (), {"bilinear": 5 * (4 * 2 * 3 + 4 * 3)}),
    ],
)
def test_operators_count_that_fvcore_has_no_handle_for(module, shape, flops):
    inputs = (torch.ones(5, 2), torch.ones(5, 3)) if isinstance(module, nn.Bilinear) else torch.ones(shape)
    analysis = FlopCountAnalysis(module, inputs)
    assert analysis.by_operator() == flops
    assert analysis.unsupported_ops() == {}
    assert analysis.clear_op_handles().total() == 0
    assert sum(analysis.unsupported_ops().values()) == 1


def test_an_encoder_layer_is_counted_module_by_module_though_pytorch_has_one_operator_for_it():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    counts = {}
    for grad in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with grad():
            counts[grad] = FlopCountAnalysis(layer, torch.ones(3, 2, 4)).by_module()
    assert counts[torch.no_grad] == counts[torch.inference_mode] == counts[torch.enable_grad]
    assert counts[torch.no_grad]["linear1"] == 3 * 2 * 4 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_forward_that_differentiates_is_counted_with_its_backward():
    def force(model, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(model.energy(model.norm(model.conv(x)).flatten(1)).sum(), x)[0]

    model = Calls(force, energy=nn.Linear(5, 7), norm=nn.BatchNorm1d(5), conv=nn.Conv1d(2, 5, 4))
    x = torch.ones(3, 2, 4)
    flops = FlopCountAnalysis(model, x)
    with OpCounter(model) as counter:
        model(x)
    assert flops.total("energy") == counter.by_module()["energy"].macs == 2 * 3 * 5 * 7
    assert flops.by_module()["norm"] == 3 * 5 * 5
    assert flops.by_operator()["conv"] == 3 * 5 * 2 * 4
    assert flops.by_operator("energy")["linear"] == 3 * 5 * 7
    assert flops.by_operator("energy")["mm"] == 3 * 5 * 7
    with pytest.raises(
        RuntimeError, match=r"expected a forward that differentiates nothing, for the handles of aten::x"
    ):
        flops.set_op_handle("aten::x", gelus).total()


def test_an_error_of_the_model_is_the_models():
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        FlopCountAnalysis(nn.Linear(3, 3), torch.ones(1, 4)).total()


# Modules.


def test_callers_and_owners_differ_where_a_module_is_called_past_its_parent():
    inner = Calls(lambda m, x: x, fc=nn.Linear(10, 1))
    model = Calls(lambda m, x: m.submod.fc(m.fc(x)), submod=inner, fc=nn.Linear(10, 10))
    flops = FlopCountAnalysis(model, (torch.ones(1, 10),)).ancestor_mode("caller")
    assert (flops.total("submod"), flops.total("submod.fc"), flops.total()) == (0, 10, 110)
    assert flops.uncalled_modules() == {"submod"}
    assert flops.ancestor_mode("owner").total("submod") == 10
    assert flops.uncalled_modules() == set()


def test_a_module_that_calls_itself_counts_its_work_once():
    def forward(model, x, count=3):
        return model(x, count - 1) if count else model.fc(x)

    flops = FlopCountAnalysis(Calls(forward, fc=nn.Linear(10, 1)), torch.ones(1, 10))
    assert flops.by_module() == {"": 10, "fc": 10}


def test_a_module_class_that_is_priced_as_a_whole_is_one_operator():
    class Priced(nn.Module):
        def forward(self, x):
            return x @ x

    from opcount.registry import USER, Formula  # noqa: PLC0415

    USER.add(Priced, Formula(lambda out, x: Cost(macs=5, activations=2), "user"))
    try:
        flops = FlopCountAnalysis(nn.Sequential(Priced(), nn.Linear(3, 3)), torch.ones(3, 3))
        assert flops.by_module() == {"": 32, "0": 5, "1": 27}
    finally:
        USER._formulas.pop(Priced)


# Warnings.


class Talking(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused, self.parts = nn.Linear(3, 3), nn.Linear(3, 3), nn.ModuleList([nn.Linear(3, 3)])

    def forward(self, x):
        warnings.warn("from the model", RuntimeWarning, stacklevel=2)
        return self.parts[0](self.used(x)) + 2


def test_operators_without_a_price_and_modules_without_a_call_are_logged_under_fvcores_name(caplog):
    flops = FlopCountAnalysis(Talking(), torch.ones(1, 3)).tracer_warnings("none")
    with caplog.at_level(logging.WARNING, LOGGER):
        flops.total()
    assert {record.name for record in caplog.records} == {LOGGER}
    assert caplog.messages[0] == "Unsupported operator aten::add encountered 1 time(s)"
    assert caplog.messages[1].endswith("never called; their parents include what ran: unused")
    caplog.clear()
    flops.total()
    assert not caplog.messages  # the count is kept
    again = flops.copy().unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    assert again.total() == 18
    assert not caplog.messages


@pytest.mark.parametrize(("mode", "shown"), [("all", 1), ("no_tracer_warning", 1), ("none", 0)])
def test_the_models_own_warnings_are_shown_unless_they_are_switched_off(mode, shown):
    flops = FlopCountAnalysis(Talking(), torch.ones(1, 3)).tracer_warnings(mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        flops.total()
    assert [str(w.message) for w in caught] == ["from the model"] * shown


def test_unsupported_operators_are_known_after_a_count_only():
    flops = FlopCountAnalysis(nn.Sigmoid(), torch.ones(1))
    with pytest.raises(RuntimeError, match=r"expected a count before unsupported_ops\(\), got none. Call total\(\)"):
        flops.unsupported_ops()
    flops.total()
    assert flops.unsupported_ops() == {"aten::sigmoid": 1}


# The rest.


def test_a_copy_has_all_settings_and_goes_its_own_way():
    flops = FlopCountAnalysis(Small(), IMAGE).set_op_handle("aten::linear", lambda i, o: 1)
    flops.set_op_handle("aten::relu", None).unsupported_ops_warnings(enabled=False).ancestor_mode("caller")
    other = flops.copy(new_inputs=IMAGE.repeat(2, 1, 1, 1))
    assert isinstance(other, FlopCountAnalysis)
    assert other.total() == 6001
    other.set_op_handle("aten::linear", None)
    assert (other.total(), flops.total()) == (6000, 3001)
    assert flops.copy(new_model=nn.Conv2d(3, 1, 1)).total() == 300
    cleared = flops.copy().clear_op_handles()
    assert (cleared.copy().total(), flops.copy().total()) == (0, 3001)


def test_a_dict_and_a_list_are_one_argument_each():
    flops = FlopCountAnalysis(Calls(lambda _, x: x["a"] @ x["b"]), {"a": torch.ones(2, 3), "b": torch.ones(3, 4)})
    assert flops.total() == 24
    assert FlopCountAnalysis(Calls(lambda _, x: x[0] @ x[1]), [torch.ones(2, 3), torch.ones(3, 4)]).total() == 24


def test_a_count_inside_a_count_disturbs_neither():
    model = Small()
    with OpCounter(model) as outer:
        assert FlopCountAnalysis(model, IMAGE).total() == 13000
        model(IMAGE)
    assert outer.macs == 2 * 13000


def test_fvcore_is_not_needed():
    code = "import sys; sys.modules['fvcore'] = sys.modules['tabulate'] = None; import opcount.compat.fvcore"
    subprocess.run([sys.executable, "-c", code], check=True)
