"""The command line says what it counted: inputs, which of them nobody said, batch, optimizer, its own words."""

from __future__ import annotations

import pytest

from opcount import Profile
from tests.cli.test_count import NET, counted

IMAGES = """
from torch import nn

class Net(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 3)
"""


@pytest.mark.parametrize(
    ("text", "options", "inputs"),
    [
        (IMAGES, [], "input=1x3x224x224:float32 (assumed; --shape says another)"),
        (IMAGES, ["--batch-size", "2"], "input=2x3x224x224:float32 (assumed; --shape says another)"),
        (IMAGES, ["--shape", "32"], "input=1x3x32x32:float32"),
        (IMAGES, ["--input", "5x3x8x8"], "input=5x3x8x8:float32"),
        (NET, [], "x=1x16:float32"),  # the file says it
    ],
)
def test_an_input_that_nobody_said_is_said_to_be_assumed(opcount, write, text, options, inputs):
    status, out, err = opcount("count", write(text), *options)
    assert status == 0, err
    assert f"\ninputs: {inputs}\n" in out


def test_the_options_that_say_another_text_and_another_image(opcount):
    out = opcount("count", "transformers/gpt2", "--kwargs", "n_layer=1")[1]
    assert "inputs: input_ids=1x128:int64 (assumed; --seq says another)" in out
    out = opcount("count", "torchvision/resnet18", "--depth", 0)[1]
    assert "inputs: x=1x3x224x224:float32 (assumed; --shape says another)" in out


def test_batch_dtype_optimizer_device_and_the_command_itself(opcount, write):
    file = write(NET, "a net.py")
    status, out, _ = opcount("count", file, "--train", "--batch-size", 3, "--dtype", "bfloat16", "--optimizer", "SGD")
    assert status == 0
    assert "counted: Net, train, grad, bfloat16, cpu, SGD, batch 3, dry run" in out
    assert f"command: opcount count '{file}' --train --batch-size 3 --dtype bfloat16 --optimizer SGD" in out
    assert "per sample (batch 3" in out


def test_a_diff_of_other_inputs_warns(opcount, write, tmp_path):
    file, paths = write(NET), [tmp_path / "a.json", tmp_path / "b.json"]
    for rows, path in enumerate(paths, start=1):
        path.write_text(counted(opcount, file, "--batch-size", rows).to_json())
    status, out, err = opcount("diff", *paths)
    assert status == 0
    assert "warning: inputs before: x=1x16:float32; after: x=2x16:float32" in out
    assert "the counts differ in more than the model: inputs and batch size" in err
    assert opcount("diff", paths[0], paths[0])[2] == ""


def test_a_program_says_its_command(process, write):
    file = write("import torch\nwith torch.no_grad():\n    torch.nn.Linear(4, 2)(torch.ones(3, 4))\n", "main.py")
    done = process("run", "-o", "out.json", file, "--epochs", "1", cwd=file.parent)
    assert done.returncode == 0, done.stderr
    facts = Profile.from_json((file.parent / "out.json").read_text()).provenance
    assert facts["command"] == f"opcount run -o out.json {file} --epochs 1"
    assert facts["inputs"] == "Linear(input=3x4:float32)"
