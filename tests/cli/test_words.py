"""Command lines as people type them: without a command, sizes in any spelling, options of other tools, bare names."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from opcount import Profile
from tests.cli.conftest import PATH
from tests.cli.test_count import NET, counted
from tests.shims import child_environment

UNET = """
from torch import nn

class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, x, t=None):
        return self.c(x) if t is None else self.c(x) + t
"""
TWO = """
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x, mask):
        return self.fc(x) * mask
"""
NEEDS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, num_classes: int, act: str = "relu"):
        super().__init__()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(x)

def inputs():
    return __import__("torch").ones(1, 64)
"""


@pytest.fixture
def here(write, tmp_path, monkeypatch):
    for name, text in {"unet.py": UNET, "two.py": TWO, "needs.py": NEEDS, "net.py": NET}.items():
        write(text, name)
    write("from torch.nn import Linear, ReLU\nfrom unet import Unet\n", "imports.py")
    write("from torch import nn\nclass A(nn.Linear): pass\nclass B(nn.Linear): pass\n", "several.py")
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 1, "vocab_size": 100}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_target_alone_is_counted(opcount, here):
    first, *_ = [opcount(*words)[1] for words in (["unet.py"], ["--depth", "0", "unet.py"])]
    assert "command: opcount count unet.py" in first
    assert first == opcount("count", "unet.py")[1]
    status, _, err = opcount("shwo", "profile.json")
    assert status == 2
    assert "invalid choice: 'shwo'" in err
    assert err.endswith("Did you mean show?\n")
    assert opcount("gpt2")[2].endswith("To count a model: opcount count gpt2\n")


@pytest.mark.parametrize("words", [["3x8x8"], ["3,8,8"], ["(3,", "8,", "8)"], ["3", "8", "8"], ["[3,8,8]"], ["3*8*8"]])
def test_a_shape_in_any_spelling(opcount, here, words):
    assert counted(opcount, "unet.py", "--shape", *words).provenance["inputs"] == "x=1x3x8x8:float32"


def test_an_input_in_any_spelling(opcount, here):
    for text in ("x=1x3x8x8", "x=1,3,8,8", "x=(1,3,8,8):fp32", "1x3x8x8"):
        assert counted(opcount, "unet.py", "--input", text).provenance["inputs"] == "x=1x3x8x8:float32"


def test_a_shape_with_its_batch_is_told_to_leave_it_out(opcount, here):
    status, _, err = opcount("unet.py", "--shape", "1x3x8x8")
    assert status == 2
    assert err.endswith("--shape leaves out the batch, such as 3x8x8: check it.\n")


def test_a_stored_profile_is_no_model(opcount, here):
    assert opcount("unet.py", "-o", "a.json")[0] == 0
    status, _, err = opcount("a.json")
    assert (status, err) == (
        2,
        "opcount: load: expected a model, got a stored profile, 'a.json'. Run: opcount show a.json\n",
    )


@pytest.mark.parametrize("shape", ["3x0x8", "3xx8", "x", "-3", "3.5"])
def test_a_shape_that_is_none(opcount, here, shape):
    status, _, err = opcount("unet.py", f"--shape={shape}")
    assert status == 2
    several = "positive whole numbers such as 3x256x256" if "x" in shape else "a positive whole number"
    assert f"expected {several}, got {shape!r}" in err


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp16", "float16"), ("bf16", "bfloat16"), ("half", "float16"), ("FP32", "float32"), ("torch.float64", "float64")],
)
def test_dtypes_have_short_names(opcount, here, name, dtype):
    facts = counted(opcount, "unet.py", "--dtype", name, "--shape", "8").provenance
    assert (facts["dtype"], facts["inputs"]) == (dtype, f"x=1x3x8x8:{dtype}")


def test_a_shape_fills_the_first_parameter_that_an_input_leaves_out(opcount, here):
    facts = counted(opcount, "two.py", "--input", "mask=1x4", "--shape", "2,3,16").provenance
    assert facts["inputs"] == "x=1x2x3x16:float32 mask=1x4:float32"
    facts = counted(opcount, "two.py", "--input", "x=1x2x3x16", "--shape", "2,3,4").provenance
    assert facts["inputs"] == "x=1x2x3x16:float32 mask=1x2x3x4:float32"
    facts = counted(opcount, "two.py", "--input", "2x2x3x16", "--shape", "2,3,4", "--batch-size", 2).provenance
    assert facts["inputs"] == "x=2x2x3x16:float32 mask=2x2x3x4:float32"


@pytest.mark.parametrize("option", [["--shape", "4"], ["--batch-size", "2"], ["--seq", "4"]])
def test_a_size_of_nothing_is_an_error(opcount, here, option):
    status, _, err = opcount("two.py", "--input", "x=2x16", "--input", "mask=2x4", *option)
    assert status == 2
    assert f"expected no {option[0]} beside --input" in err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--input-size", "3", "8", "8"], "For --input-size write --shape."),
        (["--imgsz=8"], "For --imgsz write --shape."),
        (["--seq-len", "8"], "For --seq-len write --seq."),
        (["--bs", "8"], "For --bs write --batch-size."),
        (["--fp16"], "For --fp16 write --dtype."),
        (["--max-depth", "8"], "For --max-depth write --depth."),
        (["--formt", "json"], "For --formt write --format."),
        (["--input", "1", "3", "8", "8"], "one word: --input 1x3x224x224"),
    ],
)
def test_an_option_of_another_tool_is_named_as_here(opcount, here, words, hint):
    status, out, err = opcount("unet.py", *words)
    assert (status, out) == (2, "")
    assert err.endswith(f"{hint}\n") or hint in err.splitlines()[-1]


def test_a_function_for_inputs_is_no_model_and_missing_arguments_are_a_line_to_paste(opcount, here):
    status, _, err = opcount("needs.py")
    assert status == 2
    line = err.splitlines()[-1].partition("with values of your own: ")[2]
    assert line == "opcount count needs.py:Net --kwargs width=64 num_classes=10"
    assert counted(opcount, *line.split()[2:]).macs == 64 * 10
    assert counted(opcount, "needs.py", "--kwargs", "width=64", "num_classes=3").macs == 64 * 3


def test_missing_inputs_are_a_line_to_paste(opcount, here):
    status, _, err = opcount("two.py", "--input", "x=2x16")
    assert status == 2
    line = err.splitlines()[-1].partition("Say all: ")[2]
    assert line == "opcount count two.py --input x=2x16:float32 --input mask=2x16:float32"
    assert counted(opcount, *line.replace("mask=2x16", "mask=2x4").split()[2:]).macs == 2 * 16 * 4


def test_an_imported_class_is_found_when_it_is_the_only_one(opcount, here):
    assert counted(opcount, "imports.py", "--shape", "8").macs == 4 * 6 * 6 * 3 * 3 * 3
    err = opcount("several.py")[2]
    assert "got 0 in 'several.py'. Run one of: opcount count several.py:A --kwargs" in err


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("gpt", "GPT2LMHeadModel"),
        ("gpt/", "GPT2LMHeadModel"),
        ("./gpt/config.json", "GPT2LMHeadModel"),
        ("gpt:GPT2Model", "GPT2Model"),
        ("transformers/gpt", "GPT2LMHeadModel"),
        ("gpt2:GPT2Model", "GPT2Model"),
    ],
)
def test_a_folder_with_a_config_and_a_bare_name_lead_to_transformers(opcount, here, target, kind):
    status, out, err = opcount("count", target, "--kwargs", "n_layer=1", "--seq", 8, "--format", "json")
    assert status == 0, err
    assert Profile.from_json(out).provenance["model"] == kind
    if not target.startswith("transformers/"):
        assert f"{target} is counted as transformers/{target}." in err
    if kind == "GPT2LMHeadModel":
        assert "GPT2LMHeadModel is counted. Another: " in err


def test_a_text_beyond_the_positions_is_refused(opcount, here):
    status, _, err = opcount("gpt", "--seq", 1025)
    assert status == 2
    assert "expected at most 1024 tokens, the positions of GPT2LMHeadModel, got 1025 in input_ids" in err


def test_a_bare_name_of_a_vision_model_leads_to_its_libraries(opcount, here):
    assert "Did you mean timm/resnet50 or torchvision/resnet50?" in opcount("count", "resnet50")[2]
    assert "pass transformers/FOLDER: nothing is downloaded" in opcount("meta-llama/Llama-2-7b")[2]


BROKEN = """
def f(depth):
    if depth:
        f(depth - 1)
    raise RuntimeError({message!r})

f(60)
"""


@pytest.mark.parametrize("target", ["torchvision/resnet18", "timm/resnet18", "transformers/gpt2"])
def test_a_broken_torchvision_is_one_sentence(process, here, target):
    package = here / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN.format(message="operator torchvision::nms does not exist\n" * 40))
    done = process(target, env=child_environment(PYTHONPATH=os.pathsep.join([str(here), PATH])), cwd=here)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "torchvision does not import" in line
    assert "pip install --force-reinstall torchvision" in line
    assert len(line) < 600


@pytest.mark.parametrize("name", ["x.png", "x.pdf", "x.xlsx", "x.yaml"])
def test_a_file_of_no_format_is_refused_before_the_count(opcount, here, name):
    status, out, err = opcount("nowhere.py", "-o", name)
    assert (status, out) == (2, "")
    assert err.startswith("opcount: -o: expected a file whose name ends in .speedscope.json, .json, .csv, .md")
    assert ".tex" in err


def test_a_format_that_is_said_needs_no_ending(opcount, here):
    assert opcount("unet.py", "-o", "x.dat", "--format", "csv")[0] == 0
    assert (here / "x.dat").read_text().startswith("path,stack")
    assert opcount("unet.py", "-o", "report")[0] == 0
    assert (here / "report").read_text().startswith("module")


@pytest.mark.parametrize("name", ["x.json", "x.html", "x.tex", "x.txt"])
def test_totals_still_show_where_the_report_goes_to_a_file(opcount, here, name):
    status, out, err = opcount("unet.py", "--shape", "8", "-o", name)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "total: 3.888 kMAC = 7.776 kFLOP at 2 per MAC, 144 activations, 112 parameters"
    assert (here / name).stat().st_size > 100


def test_totals_go_nowhere_else_where_the_report_goes_to_a_stream(process, here):
    done = process("unet.py", "--format", "json", "-o", "/dev/stdout", cwd=here)
    assert Profile.from_json(done.stdout).macs
    with (here / "out.json").open("w") as file:
        process("unet.py", "--format", "json", "-o", "/dev/stdout", cwd=here, capture_output=False, stdout=file)
    assert Profile.from_json((here / "out.json").read_text()).macs


def test_a_program_whose_report_goes_to_a_file_shows_totals_beside_its_own_output(process, here):
    (here / "main.py").write_text("import torch\nprint('mine')\ntorch.nn.Linear(4, 2)(torch.ones(3, 4))\n")
    done = process("run", "-o", "x.json", "main.py", cwd=here)
    assert done.stdout == "mine\n"
    assert "total: 24 MAC" in done.stderr


def in_terminal(*words, columns=100, interrupt=None, **environment):
    """Run a command line in a terminal; return its exit code and all that the terminal got."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    settings = child_environment(PYTHONPATH=PATH, **{"TERM": "xterm-256color", "COLUMNS": str(columns), **environment})
    command = [sys.executable, "-m", "opcount", *words]
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=settings, start_new_session=True) as child:
        os.close(end)
        got = b""
        with suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 65536):
                got += data
                if interrupt is not None and interrupt in got:
                    child.send_signal(signal.SIGINT)
                    interrupt = None
    os.close(terminal)
    return child.returncode, got.decode()


def shown(text):
    """Return the lines that a terminal shows in the end: what was erased is gone."""
    lines = [line.split("\r\x1b[K")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]


def test_a_terminal_gets_colours_and_bars_no_wider_than_it_is(here):
    pytest.importorskip("rich")
    status, text = in_terminal("unet.py", "--shape", "8", columns=80)
    assert status == 0
    assert "\x1b[1;36m" in text
    table = [line for line in shown(text) if line.strip()]
    assert table[0].split() == ["module", "type", "params", "MACs", "activations", "%", "MACs"]
    assert "100.0 %  " + "\u2588" * 10 in table[2]
    assert max(map(len, table[:4])) <= 80
    narrow = [line for line in shown(in_terminal("unet.py", "--shape", "8", columns=40)[1]) if line.strip()]
    assert narrow[0].split() == ["module", "type", "params", "MACs", "%", "MACs"]
    assert max(map(len, narrow[:4])) <= 40


def test_a_terminal_that_wants_none_of_it_gets_the_plain_text(here, process):
    plain = process("unet.py", cwd=here).stdout.splitlines()
    assert not any("\x1b" in line for line in plain)
    assert shown(in_terminal("unet.py", TERM="dumb")[1])[: len(plain)] == plain
    assert "\x1b[1;36m" not in in_terminal("unet.py", NO_COLOR="1")[1]


def test_a_bar_shows_what_takes_more_than_a_second_and_leaves_nothing_behind(here):
    slow = UNET.replace("return", "__import__('time').sleep(3)\n        return")
    (here / "slow.py").write_text(slow)
    status, text = in_terminal("slow.py", "--shape", "8", columns=60)
    assert status == 0
    assert "opcount: counting slow.py [" in text
    assert not any("counting" in line for line in shown(text))
    drawn = [piece for piece in text.split("\r\x1b[K") if piece.startswith("opcount: ")]
    assert all(len(piece.partition("\r")[0]) < 60 for piece in drawn)
    status, text = in_terminal("slow.py", "--shape", "8", interrupt=b"counting slow.py [")
    assert status == 130
    assert [line for line in shown(text) if line] == ["opcount: interrupted"]
