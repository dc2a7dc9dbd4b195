"""The script on plain Python files, and on everything that a user can get wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from tests import shims
from tests.scripts.command import EXAMPLES, SCRIPT, import_script, run

RULE = "=" * 30


@pytest.fixture
def write(tmp_path):
    """Write a Python file that imports torch and nn, and return its path."""

    def write(text):
        path = tmp_path / "some.py"
        path.write_text("import torch\nfrom torch import nn\n" + dedent(text))
        return str(path)

    return write


@pytest.fixture
def get_flops(monkeypatch, capsys):
    """Run the script here; return its status, output and errors."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "path", [*sys.path])
    script = import_script()

    def get_flops(*arguments):
        try:
            status = script.main(list(arguments))
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return get_flops


def closing(output):
    """Return the lines between the last two rules."""
    *_, block, end = output.split(RULE + "\n")
    assert not end
    return block.splitlines()


def test_the_main_job_prints_a_table_and_the_closing_block():
    result = run(EXAMPLES / "resnet50.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("\n+------------------------+----------------------+------------+--------------+\n")
    assert "|   layer1.0             |   75.008K            |   0.235G   |   2.007M     |\n" in result.stdout
    assert "every operator is accounted for" in result.stdout
    assert result.stdout.endswith(
        f"{RULE}\nInput shape: (3, 224, 224)\nFlops: 4.112G\nParams: 25.557M\nActivation: 11.115M\n{RULE}\n"
    )


def test_the_vit_example_prints_what_is_published():
    # 17,563,828,224 MACs of contractions + 25 layer norms x 197 tokens x 768 x 5 = 17,582,740,224 FLOPs
    result = run(EXAMPLES / "vit_base.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert closing(result.stdout) == [
        "Input shape: (3, 224, 224)",
        "Flops: 17.583G",
        "Params: 86.568M",
        "Activation: 23.896M",
    ]


def test_the_resnet_example_in_train_mode_is_counted_as_published(get_flops):
    # Published for train mode: 4,144,854,528.
    status, output, _ = get_flops(str(EXAMPLES / "resnet50.py"), "--train", "--device", "meta", "--not-show-table")
    assert status == 0
    assert "Flops: 4.145G" in closing(output)
    assert [line.split()[1] for line in output.splitlines() if line.startswith("|")] == [
        "phase",
        "forward",
        "backward",
        "total",
    ]


def test_backward_multiplies_for_the_input_and_for_the_weight(get_flops, write):
    path = write(
        "model = nn.Sequential(nn.Linear(10, 20, bias=False), nn.Linear(20, 5, bias=False))\ninput_shape = (10,)"
    )
    # forward 4 x (10 x 20 + 20 x 5) = 1200; backward: both weights, 1200, and the input of the second layer only,
    # 4 x 20 x 5 = 400, because the model's own input asks for no gradient
    _, output, _ = get_flops(path, "--train", "--batch-size", "4")
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in output.splitlines() if line.startswith("|")]
    assert rows[-4:] == [
        ["phase", "#flops", "#macs"],
        ["forward", "1.2K", "1.2K"],
        ["backward", "1.6K", "1.6K"],
        ["total", "2.8K", "2.8K"],
    ]


def test_a_model_without_a_gradient_cannot_be_trained(get_flops, write):
    status, _, errors = get_flops(write("model = nn.ReLU()"), "--train")
    assert (status, errors) == (
        1,
        "get_flops.py: train: expected an output with a gradient, got none. Count forward alone, without --train.\n",
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), "(3, 224, 224)"),
        (("64",), "(3, 64, 64)"),
        (("64", "96"), "(3, 64, 96)"),
        (("1", "64", "96"), "(1, 64, 96)"),
    ],
)
def test_a_shape_is_one_size_or_two_or_all(get_flops, write, shape, expected):
    arguments = ["--shape", *shape] if shape else []
    status, output, _ = get_flops(write("model = nn.ReLU()"), *arguments)
    assert status == 0
    assert closing(output)[0] == f"Input shape: {expected}"


def test_flops_are_linear_in_the_batch_size(get_flops, write):
    path = write("model = nn.Conv2d(3, 10, 3)\ninput_shape = (3, 10, 10)")
    lines = {size: closing(get_flops(path, "--batch-size", size)[1]) for size in ("1", "5")}
    assert lines["1"] == ["Input shape: (3, 10, 10)", "Flops: 17.28K", "Params: 0.28K", "Activation: 0.64K"]
    assert lines["5"] == [
        "Input shape: (3, 10, 10)",
        "Batch size: 5",
        "Flops: 86.4K",
        "Params: 0.28K",
        "Activation: 3.2K",
    ]


def test_the_table_can_be_hidden_and_the_architecture_shown(get_flops, write):
    path = write("model = nn.Linear(10, 10)\ninput_shape = (10,)")
    plain, hidden, both = (get_flops(path, *flags)[1] for flags in ((), ["--not-show-table"], ["--show-arch"]))
    assert "| module " in plain
    assert "Linear(" not in plain
    assert "|" not in hidden
    assert "| module " in both
    assert "#params: 0.11K, #flops: 100, #acts: 10" in both


def test_the_report_says_convention_and_coverage(get_flops, write):
    text = """
        @torch.library.custom_op("opcounttests::opaque", mutates_args=())
        def opaque(x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(x.numpy() + 1)
        class Net(nn.Module):
            def forward(self, x): return opaque(x)
    """
    status, output, errors = get_flops(write(text), "--shape", "8", "--real")
    assert (status, errors) == (0, "")
    assert "fvcore convention: " in output
    assert "1 operator has no formula, so the total is a lower bound: opcounttests.opaque.default (1 call)." in output


def test_what_a_model_prints_is_no_part_of_the_report(get_flops, write):
    text = """
        print("imported")
        class Net(nn.Module):
            def forward(self, x):
                print("called")
                return x
    """
    _, output, errors = get_flops(write(text))
    assert "imported" not in output
    assert errors == "imported\ncalled\n"


ASKS = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)
        def forward(self, x):
            x = self.a(x)
            print(type(x).__name__)
            {}
            return x
    input_shape = (4,)
"""


def test_nothing_is_computed_unless_that_is_asked_for(get_flops, write):
    path = write(ASKS.format(""))
    dry, real = get_flops(path), get_flops(path, "--real")
    assert (dry[:2], real[0]) == (real[:2], 0)
    assert (dry[2], real[2]) == ("DryTensor\n", "Tensor\n")


def test_a_model_that_cannot_run_dry_is_computed_and_one_line_says_why(get_flops, write):
    path = write(ASKS.format("x = x * bool((x.sum() > -99).item())"))
    status, output, errors = get_flops(path)
    assert status == 0
    assert "Flops: 16" in closing(output)  # 4 x 4
    assert output == get_flops(path, "--real")[1]
    (line,) = [line for line in errors.splitlines() if not line.endswith("Tensor")]
    assert re.fullmatch(r"get_flops\.py: dry run: .*some\.py:\d+.* Computing instead\.", line)
    status, output, errors = get_flops(path, "--dry-run")
    assert (status, output) == (1, "")
    assert errors.splitlines()[-1].startswith("get_flops.py: dry run: ")


def test_what_a_dry_run_left_behind_does_not_reach_the_real_one(write):
    kept = """
        import functools
        @functools.cache
        def table(): return torch.ones(4)
        def build():
            table()
            return Net()
    """
    path = write(dedent(ASKS).format("x = x * table() * bool((x.sum() > -99).item())") + dedent(kept))
    result = run(f"{path}:build")
    assert result.returncode == 0, result.stderr
    assert "Flops: 16" in closing(result.stdout)
    assert result.stderr.endswith("Computing instead.\n")


def test_a_model_without_parameters_works(get_flops, write):
    status, output, _ = get_flops(write("model = nn.Upsample(scale_factor=2)\ninput_shape = (3, 4, 4)"))
    assert status == 0
    # nearest upsampling counts one for each of 3 x 8 x 8 outputs
    assert closing(output)[1:] == ["Flops: 0.192K", "Params: 0", "Activation: 0"]


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "double"])
def test_inputs_follow_the_parameters_dtype(get_flops, write, dtype):
    path = write(f"model = nn.Linear(10, 10).{dtype}()\ninput_shape = (10,)")
    status, output, _ = get_flops(path)
    assert status == 0
    assert "Flops: 100" in closing(output)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_are_the_same_on_every_device(get_flops, device):
    _, output, _ = get_flops(str(EXAMPLES / "vit_base.py"), "--device", device)
    assert closing(output)[1] == "Flops: 17.583G"


def test_a_file_may_make_inputs_that_are_no_images(get_flops, write):
    text = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.out = nn.Embedding(11, 10), nn.Linear(10, 7)
            def forward(self, *, tokens): return self.out(self.embed(tokens))
        inputs = {"tokens": torch.zeros(2, 3, dtype=torch.long)}
    """
    status, output, _ = get_flops(write(text))
    assert status == 0
    assert closing(output)[:2] == ["Input shape: {'tokens': (2, 3)}", "Flops: 0.42K"]  # 2 x 3 tokens x 10 x 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "22a"], "argument --shape: expected a positive whole number, got '22a'."),
        (["--shape", "0"], "argument --shape: expected a positive whole number, got '0'."),
        (["--shape", "-3"], "argument --shape: expected a positive whole number, got '-3'."),
        (["--shape", "2.5"], "argument --shape: expected a positive whole number, got '2.5'."),
        (["--shape"], "argument --shape: expected at least one argument"),
        (["--batch-size", "0"], "argument --batch-size: expected a positive whole number, got '0'."),
        (["--device", "tpu"], "argument --device: expected cpu, cuda, cuda:N or meta, got 'tpu'."),
        (["--cfg-options", "depth"], "argument --cfg-options: expected key=value, got 'depth'."),
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(get_flops, arguments, message):
    status, output, errors = get_flops("some.py", *arguments)
    assert (status, output) == (2, "")
    assert message in errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "expected one obvious model, got 0"),
        ("1 / 0", "raised when it was imported: ZeroDivisionError at "),
        ("def build_model(): raise ValueError('no')", "cannot be built: ValueError at "),
        ("model = nn.ReLU()\ninput_shape = (3, 0)", "expected an input shape of positive whole numbers"),
    ],
)
def test_a_file_that_gives_no_model_fails_with_a_sentence(get_flops, write, text, message):
    status, output, errors = get_flops(write(text))
    assert (status, output) == (1, "")
    assert errors.startswith("get_flops.py: load: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_missing_file_fails_with_a_sentence(get_flops):
    status, output, errors = get_flops("nowhere/resnet.py:build")
    assert (status, output) == (1, "")
    assert errors == (
        "get_flops.py: load: expected a Python file, got 'nowhere/resnet.py', which does not exist. Check the path.\n"
    )


def test_a_model_that_raises_keeps_its_error_and_names_the_module(get_flops, write):
    path = write("model = nn.Sequential(nn.Sequential(nn.Linear(10, 20), nn.Linear(30, 5)))\ninput_shape = (10,)")
    status, output, errors = get_flops(path)
    assert (status, output) == (1, "")
    assert errors.startswith("get_flops.py: the model raised RuntimeError in 0.1 (Linear): ")
    assert "mat1 and mat2 shapes cannot be multiplied" in errors


def test_a_traceback_is_shown_on_request(get_flops, write):
    path = write("model = nn.Linear(30, 5)\ninput_shape = (10,)")
    assert "Traceback" not in get_flops(path)[2]
    assert "Traceback" in get_flops(path, "--traceback")[2]


def test_a_model_that_reads_values_is_told_to_leave_the_meta_device(get_flops, write):
    text = """
        class Net(nn.Module):
            def forward(self, x): return x * x.sum().item()
    """
    status, _, errors = get_flops(write(text), "--device", "meta")
    assert status == 1
    assert "in the model itself (Net)" in errors
    assert errors.endswith(". Meta tensors hold no values: if it reads one, pass --device cpu\n")


def test_help_names_every_flag_and_does_not_wait_for_torch():
    result = run("--help", env={**shims.child_environment(), "PYTHONPROFILEIMPORTTIME": "1"})
    assert result.returncode == 0
    for flag in ("--shape", "--show-arch", "--not-show-table", "--cfg-options", "--batch-size", "--device", "--train"):
        assert flag in result.stdout
    assert "| torch" not in result.stderr


def test_a_closed_pipe_ends_the_program_quietly():
    command = [sys.executable, str(SCRIPT), str(EXAMPLES / "resnet50.py"), "--device", "meta"]
    with subprocess.Popen(
        command, env=shims.child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(60), errors) == (128 + signal.SIGPIPE, "")


def test_an_interrupt_ends_the_program_with_one_line(write):
    text = """
        import sys, time
        class Net(nn.Module):
            def forward(self, x):
                print("running", file=sys.stderr, flush=True)
                time.sleep(60)
    """
    command = [sys.executable, str(SCRIPT), write(text)]
    with subprocess.Popen(
        command, env=shims.child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "running\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr.read() == "get_flops.py: interrupted\n"
        assert process.stdout.read() == ""
        assert process.wait(60) == 128 + signal.SIGINT
