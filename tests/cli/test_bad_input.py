"""Mistakes of users: one clear sentence, exit code 2, and no file that was not there before."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.cli.conftest import PATH
from tests.cli.test_count import NET
from tests.shims import child_environment

FILE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a = nn.Linear(16, width)
        self.b = nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a(x))

def nothing(): return None
def raises(): raise KeyError("oh")
def leaves(): raise SystemExit(4)
input_shape = (16,)
"""


@pytest.fixture
def here(write, tmp_path, monkeypatch):
    """Work in a folder with Python files that are wrong in many ways."""
    files = {
        "net.py": FILE,
        "fine.py": NET,
        "raises.py": 'raise ValueError("bad day")',
        "leaves.py": "raise SystemExit(3)",
        "broken.py": "def f(:",
        "needs.py": "import nonexistent_library",
        "empty.py": "",
    }
    for name, text in files.items():
        write(text, name)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.py:Nett"], "expected a name in net.py, got 'Nett'. Did you mean Net?"),
        (["nett.py:Net"], "got 'nett.py', which does not exist. Did you mean net.py"),
        (["nett.py"], "Did you mean net.py?"),
        (["net.py:nothing"], "expected net.py:nothing to build an nn.Module, got None of type NoneType"),
        (["net.py:raises"], "net.py:raises cannot be built: KeyError at net.py:14: 'oh'"),
        (["net.py:leaves"], "SystemExit at net.py:15: 4"),
        (["net.py:Net", "--kwargs", "depth=3"], "unexpected keyword argument 'depth'"),
        (["net.py:Net", "--kwargs", "width"], "opcount: load: expected key=value, got 'width'"),
        (["net.py:Net", "--dtype", "int64"], "expected a dtype that weights can have, such as float32 or bfloat16"),
        (["raises.py"], "raises.py raised when it was imported: ValueError at raises.py:1: bad day"),
        (["leaves.py"], "SystemExit at leaves.py:1: 3"),
        (["leaves:f"], "leaves cannot be imported: SystemExit at leaves.py:1: 3"),
        (["broken.py"], "SyntaxError at broken.py:1: invalid syntax"),
        (["needs.py"], "ModuleNotFoundError at needs.py:1: No module named 'nonexistent_library'"),
        (["empty.py"], "expected one obvious model, got 0 in 'empty.py'. Add a function build_model()"),
        (["folder"], "which is a folder"),
        ([""], "expected a target, got ''"),
        (["nowhere.json"], "which does not exist"),
        (["torch.nn:Linearr"], "expected a name in torch.nn, got 'Linearr'. Did you mean Linear"),
        (["torch.n:Linear"], "No module named 'torch.n'. Did you mean torch.nn or"),
        (["finee:Net"], "No module named 'finee'. Did you mean fine"),
        (["timm/"], "timm knows no model ''. There are"),
        (
            ["fine.py", "--modules", "zzz*"],
            "got 'zzz*', which matches none. Modules begin with: body",
        ),
        (["fine.py", "-o", "folder"], "-o: 'folder' cannot be written: Is a directory"),
        (["fine.py", "-o", ""], "-o: '.' cannot be written: Is a directory"),
        (["fine.py", "-o", "no/such/folder.json"], "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_done_says_why_in_one_sentence(opcount, here, arguments, message):
    before = sorted(here.rglob("*.*"))
    status, out, err = opcount("count", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    said = [line for line in err.splitlines() if line != "noise" and not line.endswith(" ...")]
    assert len(said) == 1
    assert sorted(file for file in here.rglob("*.*") if "__pycache__" not in file.parts) == before


def test_a_wrong_shape_is_the_models_own_error_with_the_module_where_it_happened(process, here):
    done = process("count", "net.py:Net", "-o", "net.json")
    assert (done.returncode, done.stdout) == (2, "")
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied \(1x8 and 4x2\)$") as own:
        torch.nn.Linear(4, 2)(torch.ones(1, 8))
    assert done.stderr.splitlines()[-1] == (
        f"opcount: the model raised RuntimeError in b (Linear) at net.py:11: {own.value}. "
        "Say what it takes with --shape or --input."
    )
    dry = process("count", "net.py:Net", "--dry-run")
    assert dry.stderr.splitlines()[-1] == (
        "opcount: the model raised RuntimeError in b (Linear) at net.py:11: a and b must have same reduction dim, but "
        "got [1, 8] X [4, 2]. Say what it takes with --shape or --input, or compute it with --real."
    )
    assert "Traceback" not in done.stderr  # PyTorch logs one for errors of fake tensors
    assert not (here / "net.json").exists()


@pytest.mark.parametrize(
    ("library", "target"),
    [("timm", "timm/resnet18"), ("torchvision", "torchvision/resnet18"), ("transformers", "transformers/bert")],
)
def test_a_library_that_is_not_installed(opcount, monkeypatch, library, target):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without(library), *sys.meta_path])
    status, out, err = opcount("count", target)
    assert (status, out) == (2, "")
    assert err.endswith(f"opcount: load: {library} is not installed. Run: pip install 'opcount[models]'\n")


class _Without:
    def __init__(self, library):
        self.library = library

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["count", "x.py", "--shape"],
        ["count", "x.py", "--shape", "-3"],
        ["count", "x.py", "--shape", "3.5"],
        ["count", "x.py", "--batch-size", "0"],
        ["count", "x.py", "--seq", "-1"],
        ["count", "x.py", "--depth", "-1"],
        ["count", "x.py", "--sort", "size"],
        ["count", "x.py", "--convention", "mine"],
        ["diff", "a", "b", "--fail", "macs:much"],
        ["diff", "a", "b", "--fail", "sizes:1%"],
        ["diff", "a", "b", "--fail", "macs:-1%"],
        ["completion", "tcsh"],
        ["run"],
    ],
)
def test_bad_usage_shows_the_usage_in_a_line(opcount, arguments):
    status, out, err = opcount(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 2
    assert err.startswith(f"usage: opcount {arguments[0]} ")


def test_arguments_given_twice_add_up(opcount, write):
    status, out, err = opcount(
        "count", f"{write(NET)}:Net", "--kwargs", "width=4", "--kwargs", "width=2", "--format", "folded"
    )
    assert status == 0, err
    assert "head;aten.addmm.default 4\n" in out  # the last of one name wins, as in a dict
    net = "from torch import nn\ndef f(a, b): return nn.Linear(a, b)\ninput_shape = (16,)"
    assert "f(b) in" in opcount("count", f"{write(net)}:f", "--kwargs", "a=16")[2]
    assert opcount("count", f"{write(net)}:f", "--kwargs", "a=16", "--kwargs", "b=2")[0] == 0


def test_an_option_that_a_format_does_not_heed_is_named(opcount, write):
    status, _, err = opcount("count", write(NET), "--format", "csv", "--depth", 0, "--unfold")
    assert status == 0
    assert "opcount: --depth has no effect with --format csv (only with table, tree, markdown, latex).\n" in err
    assert "--unfold has no effect" in err
    assert "--sort" not in err


def test_an_arch_is_read_under_the_convention_asked_for(opcount, write):
    status, out, _ = opcount("count", write(NET), "--format", "arch", "--convention", "torch")
    assert status == 0
    assert "#flops: 0.29K" in out  # 2 x 144


def test_a_name_that_ends_in_speedscope_json_asks_for_that(opcount, write, tmp_path):
    assert opcount("count", write(NET), "-o", tmp_path / "net.speedscope.json")[0] == 0
    assert "speedscope.app" in (tmp_path / "net.speedscope.json").read_text()


def test_a_file_in_this_folder_needs_no_path(process, here):
    assert process("count", "fine.py:Net", "--format", "folded").returncode == 0


SLOW = """
import pathlib, time
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x):
        pathlib.Path("started").touch()
        time.sleep(60)
        return self.a(x)
"""


def test_an_interrupt_in_the_middle_of_a_count(write, tmp_path):
    write(SLOW, "slow.py")
    child = subprocess.Popen(
        [sys.executable, "-m", "opcount", "count", "slow.py", "-o", "out.json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=child_environment(PYTHONPATH=PATH),
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "opcount: interrupted"
    assert "Traceback" not in err
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix) == ["slow.py"]


def test_a_reader_that_leaves_a_count(write, tmp_path):
    write(NET)
    command = f"set -o pipefail; {sys.executable} -m opcount count net.py --format json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],  # noqa: S607
        capture_output=True, text=True, check=False, cwd=tmp_path, env=child_environment(PYTHONPATH=PATH),
    )  # fmt: skip
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_a_folder_that_must_not_be_written_to(opcount, write, tmp_path):
    net = write(NET)
    tmp_path.chmod(0o500)
    status, _, err = opcount("count", net, "-o", tmp_path / "out.json")
    tmp_path.chmod(0o700)
    assert status == 2
    assert "cannot be written: Permission denied" in err
