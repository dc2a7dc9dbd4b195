from __future__ import annotations

import sys
from textwrap import dedent

import pytest
import torch
from torch import nn

from opcount.errors import InputError, LoadError
from opcount.loaders import Request, load

LINEAR = "from torch import nn\n"


@pytest.fixture
def write(tmp_path):
    """Write a file of that text, and return its path."""

    def write(text, name="some.py"):
        path = tmp_path / name
        path.write_text(LINEAR + dedent(text))
        return str(path)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "def build_model(): return nn.Linear(7, 7)",
        "def get_model(width=7): return nn.Linear(width, 7)",
        "model = nn.Linear(7, 7)",
        "anything = nn.Linear(7, 7)",
        "def anything() -> nn.Module: return nn.Linear(7, 7)",
        "def anything() -> 'nn.Linear': return nn.Linear(7, 7)",
        "def anything(): return nn.Linear(7, 7)",
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(7, 7)",
    ],
)
def test_one_obvious_model_is_found(write, text):
    assert load(write(text), Request(shape=(7, 7, 7))).model.in_features == 7


def test_a_usual_name_wins_over_others(write):
    assert load(write("other = nn.Linear(1, 1)\ndef build_model(): return nn.Linear(7, 7)")).model.in_features == 7


def test_a_function_that_says_so_wins_over_the_classes_it_builds_from(write):
    text = """
        class Part(nn.Linear):
            def __init__(self, width=1): super().__init__(width, width)
        def tiny() -> Part: return Part(7)
        def helper(): raise AssertionError
    """
    assert load(write(text)).model.in_features == 7


def test_an_imported_function_is_no_factory(write):
    text = "from torch.nn.utils import fuse_conv_bn_eval as create_model\nclass Net(nn.Identity): pass"
    assert isinstance(load(write(text)).model, nn.Identity)


def test_main_is_never_run(write):
    assert isinstance(load(write("def main(): raise AssertionError\nclass Net(nn.Identity): pass")).model, nn.Identity)


@pytest.mark.parametrize("name", ["small", "Nets.small", "made", "Net"])
def test_a_factory_can_be_named(write, name):
    text = """
        def small(): return nn.Linear(7, 7)
        class Nets: small = small
        made = small()
        class Net(nn.Linear):
            def __init__(self): super().__init__(7, 7)
    """
    assert load(f"{write(text)}:{name}").model.in_features == 7


@pytest.mark.parametrize(
    ("text", "factory", "message"),
    [
        ("x = 1", "", r"expected one obvious model, got 0 in .*some\.py.*\. Add a function build_model\(\)"),
        ("a = nn.ReLU()\nb = nn.ReLU()", "", r"got 2 in .*Pass one of .*some\.py:a, .*some\.py:b"),
        ("a = nn.ReLU()", ":c", r"expected a name in .*some\.py, got 'c'\. Pass one of .*some\.py:a"),
        ("a = 3", ":a", "expected a function, an nn.Module class or an nn.Module, got a = 3"),
        ("def build_model(depth, *, width): ...", "", r"without required arguments, got build_model\(depth, width\)"),
        ("def build_model(): return 3", "", r"build_model to build an nn\.Module, got 3 of type int"),
        ("def build_model(): return nn.Linear('a', 1)", "", r"build_model cannot be built: TypeError at"),
        ("1 / 0", "", r"raised when it was imported: ZeroDivisionError at .*some\.py:2: division by zero"),
        ("import nowhere_at_all", "", "raised when it was imported: ModuleNotFoundError at .*some.py:2: No module"),
        ("def f(:", "", r"raised when it was imported: SyntaxError at .*some\.py:2: "),
        ("import sys; sys.exit('bye')", "", "raised when it was imported: SystemExit at .*some.py:2: bye"),
    ],
)
def test_a_file_that_builds_no_model_is_told_why(write, text, factory, message):
    with pytest.raises(LoadError, match=message):
        load(write(text) + factory)


def test_a_file_that_raises_is_not_remembered(write):
    with pytest.raises(LoadError):
        load(write("1 / 0", "broken.py"))
    assert not [name for name in sys.modules if name.endswith("broken")]


def test_a_file_can_import_its_neighbours(write):
    write("width = 7", "neighbour_of_some.py")
    assert load(write("import neighbour_of_some\nmodel = nn.Linear(neighbour_of_some.width, 1)")).model.in_features == 7


@pytest.mark.parametrize("target", ["nowhere/some.py:build", "some.py:"])
def test_a_missing_file_is_refused(target):
    with pytest.raises(LoadError, match="which does not exist"):
        load(target)


def test_the_files_input_shape_is_used(write):
    loaded = load(write("model = nn.ReLU()\ninput_shape = (1, 28, 28)"), Request(batch_size=4))
    assert loaded.shape == (1, 28, 28)
    assert loaded.inputs.shape == (4, 1, 28, 28)


def test_without_an_input_shape_it_is_a_usual_image(write):
    assert load(write("model = nn.ReLU()")).shape == (3, 224, 224)


def test_several_input_shapes_make_several_inputs(write):
    path = write("model = nn.Bilinear(2, 3, 4)\ninput_shape = ((2,), (3,))")
    assert [tuple(tensor.shape) for tensor in load(path, Request(batch_size=5)).inputs] == [(5, 2), (5, 3)]
    with pytest.raises(InputError, match=r"expected no --shape, got \(8,\)"):
        load(path, Request(shape=(8,)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inputs = torch.zeros(2, 5)", (2, 5)),
        ("inputs = (torch.zeros(2, 5), 3)", ((2, 5), 3)),
        ("def inputs(): return {'x': torch.zeros(2, 5, dtype=torch.long), 'flag': True}", {"x": (2, 5), "flag": True}),
    ],
)
def test_a_file_can_make_its_own_inputs(write, text, expected):
    assert load(write(f"import torch\nmodel = nn.ReLU()\n{text}")).shape == expected


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("input_shape = (3, 0, 8)", {}, r"expected an input shape of positive whole numbers.* got \(3, 0, 8\)"),
        ("input_shape = '3x8'", {}, r"expected an input shape .*got '3x8' of type str"),
        ("inputs = 3", {}, "to be a tensor, a tuple of arguments or a dict of keyword arguments, got 3 of type int"),
        ("def inputs(): 1 / 0", {}, r"inputs\(\) of .* raised: ZeroDivisionError"),
        ("inputs = (1,)", {"shape": (8,)}, "expected neither --shape nor --batch-size"),
        ("inputs = (1,)", {"batch_size": 2}, "expected neither --shape nor --batch-size"),
    ],
)
def test_unusable_inputs_are_refused(write, text, settings, message):
    with pytest.raises(InputError, match=message):
        load(write(f"model = nn.ReLU()\n{text}"), Request(**settings))


def test_settings_of_a_config_are_refused_for_a_plain_file(write):
    with pytest.raises(LoadError, match="expected --cfg-options with a config only, got 'a=1'"):
        load(write("model = nn.ReLU()"), Request(cfg_options=("a=1",)))


@pytest.mark.parametrize("train", [True, False])
def test_the_model_is_put_in_the_mode_that_was_asked_for(write, train):
    model = load(write("model = nn.Sequential(nn.Dropout())"), Request(train=train)).model
    assert [module.training for module in model.modules()] == [train, train]


def test_on_the_meta_device_no_weight_is_allocated(write):
    path = write("def build_model(): return nn.Linear(10**6, 10**6)\ninput_shape = (10**6,)")  # 4 TB as real numbers
    loaded = load(path, Request(device="meta"))
    assert loaded.model.weight.is_meta
    assert loaded.inputs.is_meta


def test_a_factory_that_reads_a_value_still_reaches_the_meta_device(write):
    text = "import torch\ndef build_model(): return nn.Dropout(torch.linspace(0, 1, 3)[1].item())"
    assert load(write(text), Request(device="meta")).model.p == 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_absent_gpu_is_refused(write):
    with pytest.raises(LoadError, match=r"got 'cuda', and torch sees no GPU\. Pass 'cpu' or 'meta'"):
        load(write("model = nn.ReLU()"), Request(device="cuda"))
