"""``opcount count`` runs dry where it can; whatever a dry run raises, a real one follows, and a line says why."""

import pytest

from opcount import Profile

HEAD = "import functools, torch\nfrom torch import nn\ninput_shape = (4,)\n"
LAYER = 4 * 4

FORWARD = {
    "a value": "x = x * (1 if bool((x.sum() > -9).item()) else 2)",
    "its memory": "x = torch.from_numpy((x * 2).numpy())",
    "a mask": "x = x + x[x > 0.5].sum()",
    "an error of its own on fake tensors": "assert 'Fake' not in type(x).__name__ and 'Dry' not in type(x).__name__",
    "what no one would expect": "\n        if 'Tensor' != type(x).__name__: raise SystemExit('no')",
}


def net(body, extra=""):
    return (
        f"{HEAD}{extra}\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        x = self.a(x)\n"
        f"        {body}\n"
        "        return x\n"
    )


@pytest.mark.parametrize("why", FORWARD)
def test_a_program_that_cannot_run_dry_is_computed_and_a_line_says_where_it_asked(opcount, write, why):
    path = write(net(FORWARD[why]))
    status, out, err = opcount("count", path, "--format", "json")
    assert status == 0
    profile = Profile.from_json(out)
    assert (profile.macs, profile.provenance["run"]) == (LAYER, "real")
    (line,) = [line for line in err.splitlines() if not line.endswith(" ...")]
    assert line.startswith("opcount: dry run: ")
    assert line.endswith("Computing instead.")
    assert f"{path}:" in line
    status, out, err = opcount("count", path, "--dry-run")
    assert (status, out) == (2, "")
    assert "Traceback" not in err


LIBRARY = "import torch\nSCALE = torch.full((4,), 2.0)\n"


def test_a_module_that_the_factory_imports_is_left_with_real_tensors(process, write):
    write(LIBRARY, "constants.py")
    body = net(
        "assert not constants.SCALE.is_meta; x = x * constants.SCALE.sum().item() * bool((x.sum() > -99).item())"
    )
    write(f"{body}\ndef build():\n    global constants\n    import constants\n    return Net()\n", "net.py")
    done = process("count", "net.py:build", "-o", "net.json")
    assert done.returncode == 0, done.stderr
    assert "Computing instead." in done.stderr


def test_a_module_that_forward_imports_is_left_with_real_tensors(process, write, tmp_path):
    write(LIBRARY, "constants.py")
    body = net("import constants; x = x * constants.SCALE.sum().item()")
    write(body, "net.py")
    done = process("count", "net.py", "--dry-run", "-o", "net.json")
    assert done.returncode == 0, done.stderr
    assert Profile.from_json((tmp_path / "net.json").read_text()).macs == LAYER


def test_a_cache_that_the_dry_attempt_filled_does_not_reach_the_real_one(process, write, tmp_path):
    extra = "@functools.cache\ndef table(): return torch.ones(4)\n"
    body = net("x = x * table() * bool((x.sum() > -99).item())", extra)
    write(f"{body}\ndef build():\n    table()\n    return Net()\n", "net.py")
    done = process("count", "net.py:build", "-o", "net.json")
    assert done.returncode == 0, done.stderr
    assert Profile.from_json((tmp_path / "net.json").read_text()).provenance["run"] == "real"
    assert done.stderr.splitlines()[-1].endswith("Computing instead.")


def test_a_file_is_run_once_though_its_model_is_built_twice(opcount, write, tmp_path):
    log = tmp_path / "log"
    extra = f"with open({str(log)!r}, 'a') as file: file.write('x')\n"
    assert opcount("count", write(net(FORWARD["a mask"], extra)))[0] == 0
    assert log.read_text() == "x"


def test_an_error_of_the_model_itself_is_told_once(opcount, write):
    status, out, err = opcount("count", write(net("raise KeyError('oh')")))
    assert (status, out) == (2, "")
    assert err.count("KeyError") == 1


@pytest.mark.parametrize("name", ["table", "arch", "json"])
def test_a_model_without_shapes_is_computed_to_give_it_some(opcount, write, name):
    path = write(f"{HEAD}def build():\n    return nn.Sequential(nn.LazyLinear(5))\n")
    status, out, err = opcount("count", path, "--format", name)
    assert status == 0, err
    assert "0.weight has no shape before a call of the model gives it one. Computing instead." in err
    if name == "json":
        profile = Profile.from_json(out)
        assert (profile.macs, profile.params) == (4 * 5, 4 * 5 + 5)


def test_a_module_that_forward_makes_is_computed_and_its_parameters_count(opcount, write):
    grows = "if not hasattr(self, 'late'): self.late = nn.Linear(4, 2)\n        x = self.late(x)"
    status, out, err = opcount("count", write(net(grows)), "--format", "json")
    assert status == 0, err
    profile = Profile.from_json(out)
    assert (profile.macs, profile.params) == (LAYER + 4 * 2, 4 * 4 + 4 + 4 * 2 + 2)
    assert "late.bias is made by the forward of the model" in err


def test_what_has_no_room_in_memory_is_not_computed(opcount, write):
    big = "self.b = nn.Linear(1 << 24, 1 << 24)\n        self.a"
    path = write(net(FORWARD["a value"]).replace("self.a", big, 1))
    status, out, err = opcount("count", path)
    assert (status, out) == (2, "")
    assert "needs the value" in err


SUBCLASS = """
class Int8(torch.Tensor):
    pass
"""


@pytest.mark.parametrize(
    "weight",
    [
        "nn.Parameter(torch.ones(4, 4).as_subclass(Int8))",
        "torch.eye(4).to_sparse()",
        "torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8)",
    ],
)
def test_weights_that_compute_in_a_way_of_their_own_are_not_taken_for_plain_ones(opcount, write, weight):
    text = f"""{HEAD}{SUBCLASS}
def build():
    net = nn.Linear(4, 4)
    net.odd = nn.Buffer({weight}) if not isinstance({weight}, nn.Parameter) else {weight}
    return net
"""
    status, out, err = opcount("count", f"{write(text)}:build", "--format", "json")
    assert status == 0, err
    assert Profile.from_json(out).provenance["run"] == "real"


def test_a_graph_of_zeros_and_ones_counts_its_ones(opcount, write):
    text = (
        f"{HEAD}class Graph(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('adjacency', torch.eye(50).to_sparse())\n"
        "    def forward(self, x): return self.adjacency @ x\n"
    )
    status, out, err = opcount("count", write(text), "--input", "50x8", "--format", "json")
    assert status == 0, err
    assert Profile.from_json(out).macs == 50 * 8  # one for each of the ones, in each column
