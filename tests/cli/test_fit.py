"""``opcount fit``: targets, verdicts and exit codes, the search for a batch, and changes that are counted."""

from __future__ import annotations

import re

import pytest

from opcount import Device, OpCounter
from opcount.fit.overheads import CONTEXT

MLP = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(self.act(self.up(x)))

def build(width=256, depth=4):
    return nn.Sequential(*(Block(width) for _ in range(depth)))

input_shape = (256,)
"""


@pytest.fixture
def device(tmp_path):
    """Return a function that writes a device with some room beside the context, and returns the file."""

    def of(room):
        made = Device(name="small", peaks={"float32": 1e12}, bandwidth=1e11, memory=CONTEXT + room, capability=(8, 9))
        file = tmp_path / "small.toml"
        file.write_text(made.to_toml())
        return file

    return of


def table(out):
    """Return the rows of the last table of a report, by their first cell."""
    lines = out.split("\n\n")[-1].splitlines() if "change, counted" in out else out.split("\n\n")[0].splitlines()
    return {row[0]: row[1:] for row in (re.split(r" {2,}", line.strip()) for line in lines[2:])}


def test_a_model_that_fits(opcount, write, device):
    status, out, err = opcount("fit", write(MLP), "--on", device(200e6), "--train", "--batch-size", 64)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [re.split(" {2,}", line)[0] for line in lines[:9]] == [
        "live bytes", "cuBLAS workspace", "cuBLAS workspace", "cuBLASLt workspace", "rounding", "cached",
        "CUDA context", "needed", "small",
    ]  # fmt: skip
    assert lines[-1].startswith("verdict: fits on small: ")


def test_the_report_is_that_of_the_profile(opcount, write, device):
    import torch  # noqa: PLC0415

    file = device(200e6)
    out = opcount("fit", f"{write(MLP)}:build", "--kwargs", "depth=2", "--on", file, "--train", "--optimizer", "SGD")[1]
    scope = {}
    exec(MLP, scope)  # noqa: S102
    model, x = scope["build"](depth=2), torch.ones(1, 256)
    optimizer = torch.optim.SGD(model.parameters(), foreach=True)
    with OpCounter(model, dry_run=True, memory="log", device=Device.find(str(file))) as c:
        for _ in range(3):
            y = model(x)
            y.backward(torch.ones_like(y))
            del y
            optimizer.step()
            optimizer.zero_grad()
    assert c.profile.fits(str(file)).summary() == out.splitlines()[-1]


def test_one_that_does_not_fit_shows_what_would_each_counted(opcount, write, device):
    status, out, _ = opcount("fit", write(MLP), "--on", device(60e6), "--train", "--batch-size", 4096)
    assert status == 1
    assert "verdict: does not fit on small" in out
    rows = table(out)
    assert list(rows) == [
        "--checkpoint (of *)", "--dtype bfloat16", "--optimizer SGD", "--batch-size 2048", "all of these"
    ]  # fmt: skip
    for change, options in {
        "--checkpoint (of *)": ("--checkpoint", "?"),
        "--dtype bfloat16": ("--dtype", "bfloat16"),
        "--optimizer SGD": ("--optimizer", "SGD"),
    }.items():
        alone = opcount("fit", write(MLP), "--on", device(60e6), "--train", "--batch-size", 4096, *options)[1]
        needed = re.search(r"needed +(\S+ \S+)", alone)[1]
        assert rows[change][2] == needed
        assert rows[change][3] == re.search(r"verdict: (.*) on", alone)[1]


def test_the_largest_batch(opcount, write, device):
    file = device(300e6)
    status, out, _ = opcount("fit", write(MLP), "--on", file, "--train", "--batch-size", "auto")
    assert status == 0
    batch = int(re.search(r"largest batch: (\d+)$", out, re.MULTILINE)[1])
    verdicts = {int(size.replace(",", "")): cells[-1] for size, cells in table(out).items()}
    assert (verdicts[batch], verdicts[batch + 1]) == ("fits", "does not fit")
    assert len(verdicts) <= 24
    assert opcount("fit", write(MLP), "--on", file, "--train", "--batch-size", batch)[0] == 0
    assert opcount("fit", write(MLP), "--on", file, "--train", "--batch-size", batch + 1)[0] == 1


def test_not_even_one_sample_fits(opcount, write, device):
    status, out, _ = opcount("fit", write(MLP), "--on", device(30e6), "--train", "--batch-size", "auto")
    assert status == 1
    assert "largest batch: none, for 1 does not fit" in out
    assert "--optimizer SGD" in out


def test_inference_needs_less_and_has_one_workspace(opcount, write, device):
    out = opcount("fit", write(MLP), "--on", device(60e6))[1]
    assert out.count("cuBLAS workspace") == 1
    assert "verdict: fits" in out


def test_a_model_of_transformers_is_trained_by_its_loss(opcount):
    settings = ["n_layer=2", "n_embd=64", "n_head=2", "vocab_size=1000"]
    words = ("transformers/gpt2", "--seq", 64, "--on", "L4", "--kwargs", *settings)
    status, out, err = opcount("fit", *words, "--train", "--batch-size", 8, "--checkpoint", "transformer.h.*")
    assert status == 0, err
    assert "verdict: fits on L4" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--on", "L5"], "expected a device with known peaks, got 'L5'"),
        (["--on", "TPU-v4"], "expected a device that PyTorch's caching allocator serves"),
        (["--on", "L4", "--checkpoint", "*"], "expected it beside --train"),
        (["--on", "L4", "--train", "--checkpoint", "layers.*"], "matches none. Modules begin with: 0"),
        (["--on", "L4", "--optimizer", "SGD"], "expected it beside --train"),
        (["--on", "L4", "--batch-size", "most"], "expected a positive whole number, got 'most'"),
        ([], "--on"),
    ],
)
def test_what_cannot_be_done_is_refused(opcount, write, options, message):
    status, _, err = opcount("fit", write(MLP), *options)
    assert status == 2
    assert message in err


def test_a_model_whose_workspace_is_not_known_has_a_lower_bound(opcount, write):
    net = "from torch import nn\ndef build():\n    return nn.LSTM(8, 8)\ninput_shape = (4, 8)\n"
    status, out, _ = opcount("fit", write(net), "--on", "L4", "--train")
    assert status == 2
    assert "not known: the workspace of aten._cudnn_rnn.default" in out
    assert "verdict: lower bound only on L4" in out
