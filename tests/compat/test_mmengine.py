"""The drop-in for mmengine.analysis: what it takes, what it leaves behind, and what it refuses."""

from __future__ import annotations

import cProfile
import pstats
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount import get_model_complexity_info
from opcount.compat import mmengine as ours
from opcount.errors import InputError, OpcountError, UncountedOperatorWarning
from tests.compat import reference
from tests.features import needs


def test_a_buffer_that_an_earlier_graph_saved_can_still_be_used_by_its_backward():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.register_buffer("scale", torch.full((3,), 2.0))
    loss = (model[0](torch.ones(2, 3)) * model.scale).sum()
    get_model_complexity_info(model.eval(), (3,))
    loss.backward()
    assert model[0].bias.grad.tolist() == [4.0, 4.0, 4.0]  # two rows, each times the buffer


def test_a_model_under_inference_mode_gets_its_counters_back():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.inference_mode():
        get_model_complexity_info(model, (3, 8, 8))
    assert model[1].num_batches_tracked.item() == 0
    assert model[1].running_mean.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "dtype",
    [pytest.param(torch.float16, marks=needs("products of float16 on a CPU")), torch.bfloat16, torch.float64],
)
def test_inputs_are_of_the_dtype_of_the_parameters(dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).to(dtype)
    info = get_model_complexity_info(model, (3, 8, 8))
    assert info["flops"] == 4 * 36 * 27 + 4 * 36 * 2


def test_inputs_are_on_the_device_of_the_parameters():
    info = get_model_complexity_info(nn.Linear(3, 5).to("meta"), (7, 3))
    assert info["flops"] == 7 * 3 * 5


class TwoInputs(nn.Module):
    def forward(self, x, y=None):
        return x @ (x if y is None else y)


@pytest.mark.parametrize(
    ("arguments", "flops"),
    [
        ({"input_shape": (4, 4)}, 4 * 4 * 4),
        ({"input_shape": [4, 4]}, 4 * 4 * 4),
        ({"input_shape": torch.Size([4, 4])}, 4 * 4 * 4),
        ({"input_shape": (np.int64(4), 4)}, 4 * 4 * 4),
        ({"input_shape": ((2, 3), (3, 5))}, 2 * 3 * 5),
        ({"inputs": torch.ones(4, 4)}, 4 * 4 * 4),
        ({"inputs": (torch.ones(2, 3), torch.ones(3, 5))}, 2 * 3 * 5),
        ({"inputs": {"x": torch.ones(2, 3), "y": torch.ones(3, 5)}}, 2 * 3 * 5),
        ({"input_shape": (9, 9), "inputs": torch.ones(4, 4)}, 4 * 4 * 4),
    ],
)
def test_inputs_are_a_shape_shapes_a_tensor_a_tuple_or_keywords_and_win_over_a_shape(arguments, flops):
    assert get_model_complexity_info(TwoInputs(), **arguments)["flops"] == flops


def test_a_list_is_one_argument():
    class Stack(nn.Module):
        def forward(self, tensors):
            return tensors[0] @ tensors[1]

    assert get_model_complexity_info(Stack(), inputs=[torch.ones(2, 3), torch.ones(3, 5)])["flops"] == 30


@pytest.mark.parametrize(
    "shape",
    [
        (),
        [],
        3,
        "3",
        "3,8",
        (3, "a"),
        ("3",),
        (3, 0),
        (0,),
        (3, -1),
        (True, 3),
        (3.0, 8),
        ((3,), 8),
        ((3,), ()),
        (None,),
        {3},
    ],
)
def test_what_is_no_shape_is_refused_with_the_value_and_the_remedy(shape):
    with pytest.raises(InputError) as caught:
        get_model_complexity_info(nn.Linear(3, 3), shape)
    assert isinstance(caught.value, OpcountError)
    assert isinstance(caught.value, ValueError)
    assert repr(shape) in str(caught.value)
    assert "(3, 224, 224)" in str(caught.value)


def test_neither_a_shape_nor_inputs_is_a_value_error():
    with pytest.raises(ValueError, match=r"expected an input shape or inputs, got None .* Pass input_shape="):
        get_model_complexity_info(nn.Linear(3, 3))


def test_texts_are_empty_when_they_are_not_shown_and_begin_with_a_newline_when_they_are():
    hidden = get_model_complexity_info(nn.Linear(3, 3), (3,), show_table=False, show_arch=False)
    assert (hidden["out_table"], hidden["out_arch"]) == ("", "")
    shown = get_model_complexity_info(nn.Linear(3, 3), (3,))
    assert shown["out_table"].startswith("\n+--")
    assert shown["out_arch"].startswith("\nLinear(")
    assert list(shown) == [
        "flops", "activations", "params", "flops_str", "activations_str", "params_str", "out_table", "out_arch"
    ]  # fmt: skip


def test_an_operator_that_nothing_explains_is_warned_of():
    with torch.library._scoped_library("opcount_compat_test", "DEF") as library:
        library.define("opaque(Tensor x) -> Tensor")
        library.impl("opaque", lambda x: torch.from_numpy(np.asarray(x.detach()) * 2), "CPU")
        library.impl("opaque", torch.empty_like, "Meta")

        class Opaque(nn.Module):
            def forward(self, x):
                return torch.ops.opcount_compat_test.opaque(x)

        with pytest.warns(UncountedOperatorWarning, match=r"opcount_compat_test\.opaque"):
            get_model_complexity_info(Opaque(), (3,))
        flops = ours.FlopAnalyzer(Opaque(), torch.ones(3)).unsupported_ops_warnings(enabled=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert flops.total() == 0
            assert flops.unsupported_ops() == flops.unsupported_ops("") == {"opcount_compat_test::opaque": 1}


def test_a_handle_for_a_function_reaches_the_operator_that_it_becomes():
    def softmaxes(inputs, outputs):
        return 7 * inputs[1].toIValue()

    flops = ours.FlopAnalyzer(nn.Softmax(dim=1), torch.ones(2, 3)).set_op_handle("aten::softmax", softmaxes)
    assert flops.by_operator() == {"softmax": 7}
    other = flops.copy(new_inputs=torch.ones(2, 3, 4))
    assert other.by_operator() == {"softmax": 7}


def test_a_handle_of_none_ignores_an_operator():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(6, 6))
    flops = ours.FlopAnalyzer(model, torch.ones(1, 3, 6, 6)).set_op_handle("aten::linear", None)
    assert flops.by_operator() == {"conv": 36 * 12}
    assert flops.set_op_handle("aten::_convolution", None).total() == 0


def test_a_handle_for_a_composite_operator_is_called_as_in_a_trace():
    flops = ours.FlopAnalyzer(nn.Linear(2, 3), torch.ones(1, 2)).set_op_handle("aten::linear", lambda i, o: 7)
    assert flops.by_operator() == {"linear": 7}


def test_modules_that_nothing_ran_in_are_logged_unless_that_is_off(caplog):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.same = nn.Linear(3, 3), nn.Linear(3, 3), nn.Identity()

        def forward(self, x):
            return self.used(x)

    assert ours.FlopAnalyzer(Half(), torch.ones(3)).uncalled_modules_warnings(enabled=False).total() == 9
    assert not caplog.messages
    assert ours.FlopAnalyzer(Half(), torch.ones(3)).uncalled_modules() == {"unused", "same"}
    assert caplog.messages == [
        "These modules were never called; their parents include what ran: unused"
    ]  # a container or an Identity is not news


def test_counts_by_operator_come_in_giga_and_mega():
    giga, unsupported = ours.flop_count(nn.Conv2d(3, 10, 1), (torch.ones(1, 3, 10, 10),))
    assert (giga, unsupported) == ({"conv": 3000 / 1e9}, {})
    mega, _ = ours.activation_count(nn.Conv2d(3, 10, 1), (torch.ones(1, 3, 10, 10),), {"aten::_convolution": None})
    assert mega == {}


def test_lazy_modules_are_counted_with_the_parameters_that_they_make():
    model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d()).eval()
    info = get_model_complexity_info(model, (3,))
    assert info["flops"] == 3 * 5 + 2 * 5
    assert info["params"] == (15 + 5) + (5 + 5)


def test_a_wrapper_collapses_into_what_it_wraps():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    plain, wrapped = (get_model_complexity_info(m, (3,)) for m in (model, nn.DataParallel(model)))
    root, *rows = reference.cells(plain["out_table"])
    assert reference.cells(wrapped["out_table"]) == [["module", *root[1:]], *rows]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_is_counted_as_a_whole():
    model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    info = get_model_complexity_info(model, (3, 8, 8))
    assert info["flops"] == 4 * 36 * 27 + 4 * 36 * 5
    assert model.state_dict()["1.num_batches_tracked"].item() == 0
    assert model.training


def test_tied_parameters_stand_once_under_their_first_name():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert ours.parameter_count(model) == {"": 9, "0": 9, "0.weight": 9}
    assert get_model_complexity_info(model, (3,))["params"] == 9


class Wide(nn.Module):
    """Groups of ten modules with a parameter each; only the first is called."""

    def __init__(self, modules):
        super().__init__()
        self.groups = nn.ModuleList(
            nn.ModuleList(nn.LayerNorm(1, bias=False) for _ in range(9)) for _ in range(modules // 10)
        )

    def forward(self, x):
        return F.relu(self.groups[0][0](x))


def calls(modules):
    """Count the function calls that it takes: time is for the benchmarks."""
    model = Wide(modules)
    with cProfile.Profile() as profile:
        get_model_complexity_info(model, (1,))
    return pstats.Stats(profile).total_calls


def test_twice_the_modules_take_at_most_twice_the_work():
    assert calls(2_000) <= 2.1 * calls(1_000)
