"""``opcount.count`` and ``opcount.summary``: one call, and the model stays as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import opcount
from opcount import OpCounter, Profile
from opcount.errors import DryRunError, InputError, UncountedOperatorWarning


class Net(nn.Module):
    """4 x 6 x 6 MACs of the layer for a batch of 4, a norm and a dropout that depend on the mode."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout()
        self.fc.bias.requires_grad_(requires_grad=False)

    def forward(self, x, scale=None):
        x = self.drop(self.norm(self.fc(x)))
        return x if scale is None else x * scale


class Reads(Net):
    """A net that needs a value that no dry run has."""

    def forward(self, x, scale=None):
        return super().forward(x, scale) * float(self.fc(x).sum() + torch.ones(300, 300).sum())


@pytest.mark.parametrize("kind", [Net, Reads])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dry_run", [None, False])
def test_a_count_is_that_of_a_block_and_leaves_no_trace(kind, train, training, dry_run):
    torch.manual_seed(0)
    model = kind().train(training)
    model.norm.train(mode=False)
    x = torch.ones(4, 6, requires_grad=True)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    random = torch.get_rng_state()
    profile = opcount.count(model, x, scale=torch.ones(1), train=train, dry_run=dry_run)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    calls = 2 if kind is Reads else 1  # of the layer in a forward
    assert profile.by_phase()["forward"].macs == calls * 4 * 6 * 6
    assert list(profile.by_phase()) == (["forward", "backward", "optimizer"] if train else ["forward"])
    facts = profile.provenance
    assert (facts["mode"], facts["grad"]) == (("train", "grad") if train else ("eval", "no_grad"))
    assert facts["run"] == ("real" if kind is Reads or dry_run is False else "dry")
    assert facts["inputs"] == "x=4x6:float32 scale=1:float32"
    assert (profile.modules[""].params, profile.modules[""].trainable) == (6 * 6 + 6 + 6 + 6, 6 * 6 + 6 + 6)


def test_a_dry_count_has_the_parameters_of_the_model():
    # the layer's 6 * 6 weights and the norm's 2 * 6 can be trained, its 6 biases cannot
    profile = opcount.count(Net(), torch.ones(4, 6), dry_run=True)
    assert (profile.params, profile.modules[""].trainable) == (54, 48)
    assert profile.modules["fc"].params == 42


def test_what_must_be_dry_is_never_computed():
    with pytest.raises(DryRunError):
        opcount.count(Reads(), torch.ones(4, 6), dry_run=True)
    with torch.device("meta"):
        model = Reads()
    with pytest.raises(DryRunError):
        opcount.count(model, torch.ones(4, 6))


def test_an_error_of_the_model_is_its_own():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        opcount.count(Net(), torch.ones(4, 7))
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'x'"):
        opcount.count(Net())


def test_a_shape_in_place_of_a_tensor_and_a_function_in_place_of_a_model():
    with pytest.raises(InputError, match=r"got a shape, \(4, 6\)\. Pass a tensor such as torch\.ones\(4, 6\), or call"):
        opcount.count(Net(), (4, 6))
    with pytest.raises(TypeError, match=r"expected an nn.Module, got <built-in"):
        opcount.count(torch.relu, torch.ones(1))


def test_one_warning_names_the_line_of_the_call():
    @torch.library.custom_op("shorthands::native", mutates_args=())
    def native(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)

    native.register_fake(torch.empty_like)

    class Calls(nn.Module):
        def forward(self, x):
            return native(x)

    with pytest.warns(UncountedOperatorWarning, match="shorthands.native") as caught:
        profile = opcount.count(Calls(), torch.ones(3))
    assert [warning.filename for warning in caught] == [__file__]
    assert not profile.coverage.complete


def test_a_summary_prints_layers_as_torchinfo_does(capsys):
    columns = (
        "input_size",
        "output_size",
        "num_params",
        "kernel_size",
        "mult_adds",
        "trainable",
        "frozen",
        "param_bytes",
    )
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)).requires_grad_(False)
    model[3].requires_grad_(requires_grad=True)
    profile = opcount.summary(model, (2, 3, 4, 4), col_names=columns)
    table, closing = capsys.readouterr().out.split("\n\n")
    assert [line.split() for line in table.splitlines()[2:]] == [
        # 3 x 8 x 3 x 3 + 8 = 224 weights, each of the first 216 used 2 x 2 x 2 times
        ["model", "Sequential", "2x3x4x4", "2x2", "242", "1.760", "k", "18", "224", "968", "B"],
        ["0", "Conv2d", "2x3x4x4", "2x8x2x2", "224", "3x3", "1.728", "k", "0", "224", "896", "B"],
        ["1", "MaxPool2d", "2x8x2x2", "2x8x1x1", "0", "2x2", "0", "0", "0", "0", "B"],
        ["3", "Linear", "2x8", "2x2", "18", "32", "18", "0", "72", "B"],
    ]
    assert "242 parameters (224 frozen)" in closing
    assert profile.macs == 8 * 216 + 2 * 8 * 2
    assert [profile.modules[path].kernel for path in "0123"] == ["3x3", "2x2", "", ""]


def test_a_summary_takes_shapes_data_names_and_dtypes(capsys):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.fc = nn.Embedding(5, 6), nn.Linear(6, 2)

        def forward(self, tokens, x):
            return self.fc(self.words(tokens) + x)

    sizes, dtypes = [(3, 4), (3, 4, 6)], [torch.int64, torch.float32]
    tensors = torch.zeros(3, 4, dtype=torch.int64), torch.ones(3, 4, 6)
    for given in (
        {"input_size": sizes, "dtypes": dtypes},
        {"input_size": dict(zip(("tokens", "x"), sizes, strict=True)), "dtypes": dtypes},
        {"input_size": [size[1:] for size in sizes], "dtypes": dtypes, "batch_dim": 0},
        {"input_data": tensors},
        {"input_data": list(tensors)},
        {"input_data": {"tokens": tensors[0], "x": tensors[1]}},
        {"input_data": tensors[0], "x": tensors[1]},
    ):
        profile = opcount.summary(Two(), **given, verbose=False)
        assert profile.macs in {3 * 4 * 6 * 2, 4 * 6 * 2}
    assert capsys.readouterr().out == ""
    assert opcount.summary(Two()).params == 5 * 6 + 6 * 2 + 2
    assert "nothing ran" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_size": (2, "a")}, r"expected a shape of positive whole numbers .*got \(2, 'a'\) of type tuple"),
        ({"input_size": (2, 0)}, r"got \(2, 0\)"),
        ({"input_size": 6}, "got 6 of type int"),
        ({"input_size": []}, r"got \[\]"),
        ({"input_size": (4, 6), "input_data": torch.ones(4, 6)}, "input_size or input_data, got both"),
        ({"input_size": (4, 6), "dtypes": []}, "a dtype for each of 1 inputs"),
        ({"input_size": (4, 6), "mode": "same"}, "expected mode 'eval' or 'train', got 'same'"),
        ({"input_size": (4, 6), "col_names": ["output_sizes"]}, "Did you mean output?"),
    ],
)
def test_a_summary_of_what_is_none(given, message):
    with pytest.raises(InputError, match=message):
        opcount.summary(Net(), **given)


def test_what_is_shown_of_counters_profiles_and_coverage_is_short():
    model = nn.Linear(6, 2)
    assert repr(OpCounter()) == "<OpCounter: nothing yet>"
    assert repr(OpCounter(model)) == "<OpCounter of Linear: nothing yet>"
    with OpCounter(model) as c:
        model(torch.ones(4, 6))
    assert repr(c.profile) == "<Profile of Linear: 48 MAC = 96 FLOP at 2 per MAC, 14 parameters>"
    assert repr(c) == repr(c.profile).replace("Profile", "OpCounter")
    assert repr(c.coverage) == "<Coverage: 1 operators counted, 2 free, uncounted: none>"
    assert repr(Profile()) == "<Profile of nothing that ran>"
    assert c._repr_html_().startswith("<iframe")


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.html", "<!doctype html>"),
        ("a.HTM", "<!doctype html>"),
        ("a.json", "{"),
        ("a.csv", "path,stack"),
        ("a.md", "| module |"),
        ("a.tex", "% total: "),
        ("a.txt", "module  type"),
        ("a.folded", "model;"),
        ("a.speedscope.json", '{"$schema"'),
    ],
)
def test_a_profile_is_saved_in_the_format_of_the_names_ending(tmp_path, name, begins):
    profile = opcount.count(nn.Linear(6, 2), torch.ones(4, 6))
    profile.save(tmp_path / name)
    assert (tmp_path / name).read_text().lower().startswith(begins.lower())
    profile.save(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.png", "a", "json"])
def test_a_name_with_another_ending_is_refused_with_those_that_are_known(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.speedscope\.json, \.json, \.csv, .*\.tex.*, got .*Name one"):
        opcount.count(nn.Linear(6, 2), torch.ones(4, 6)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())
