"""The comparison in docs/comparison.md is true: every number in it is counted again, by the tool that it is said of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.shims import child_environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/comparison.md").read_text()
SECTION = PAGE.partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if re.match(r"\| .*\d", line)
]
TABLE = {program: [int(number) for number in numbers] for program, *numbers in ROWS if numbers[0].isdigit()}

TEXTBOOK = {
    # w is 8 x 4, x is 3 x 8
    "`x @ w` in a module": 3 * 8 * 4,
    # 3 to 4 channels, 3 x 3, an image of 8 x 8 that stays one
    '`nn.Conv2d(padding="same")`': 8 * 8 * 4 * 3 * 3 * 3,
    # 5 tokens of 16 to q, k and v; 2 heads of 8: scores, then their product with v
    "self-attention, fused": 5 * 16 * 48 + 2 * (5 * 5 * 8 + 5 * 5 * 8),
    # 5 steps, four gates of 16, each from 8 inputs and 16 hidden values
    "`nn.LSTM`": 5 * 4 * 16 * (8 + 16),
    # the self-attention, its output projection, and two layers of 16 x 32
    "`nn.TransformerEncoderLayer`": 4640 + 5 * 16 * 16 + 2 * 5 * 16 * 32,
}

COUNT = """
import contextlib, copy, json, logging, os, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(8, 4))

    def forward(self, x):
        return x @ self.w


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        return scaled_dot_product_attention(*self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4))


def opcount(model, x):
    from opcount import OpCounter
    with OpCounter(model) as c:
        model(x)
    return c.macs


def flop_counter(model, x):
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


def fvcore(model, x):
    from fvcore.nn import FlopCountAnalysis
    return FlopCountAnalysis(model, x).total()


def mmengine(model, x):
    from mmengine.analysis import FlopAnalyzer
    return FlopAnalyzer(model, x).total()


def thop(model, x):
    from thop import profile
    return int(profile(model, (x,), verbose=False)[0])


def ptflops(model, x):
    from ptflops import get_model_complexity_info
    return get_model_complexity_info(
        model, (1,), input_constructor=lambda _: x, as_strings=False, print_per_layer_stat=False, verbose=False
    )[0]


def torchinfo(model, x):
    from torchinfo import summary
    return int(summary(model, input_data=x, verbose=0).total_mult_adds)


programs = (
    (Product(), torch.ones(3, 8)),
    (nn.Conv2d(3, 4, 3, padding="same"), torch.ones(1, 3, 8, 8)),
    (Attention(), torch.ones(1, 5, 16)),
    (nn.LSTM(8, 16), torch.ones(5, 1, 8)),
    (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.ones(1, 5, 16)),
)
tools = (opcount, flop_counter, fvcore, mmengine, thop, ptflops, torchinfo)
with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
    counts = [[tool(copy.deepcopy(model).eval(), x) for tool in tools] for model, x in programs]
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counts():
    """Count in a process of its own: some of the tools patch PyTorch, and never quite undo it."""
    environment = child_environment()
    environment["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return [[row[0], row[1], {row[2], row[3]}, *row[4:]] for row in json.loads(done.stdout)]


def test_every_number_of_the_comparison_is_what_that_tool_reports(counts):
    assert [[a, b, {c}, *rest] for a, b, c, *rest in TABLE.values()] == counts


def test_opcount_reports_what_the_textbook_says():
    assert {program: numbers[0] for program, numbers in TABLE.items()} == TEXTBOOK


@pytest.mark.parametrize("tool", ["fvcore", "mmengine", "thop", "ptflops", "torchinfo"])
def test_the_comparison_names_the_version_of_every_tool(tool):
    assert f"{tool} {re.match(r'[0-9]+[.][0-9]+[.][0-9]+', version(tool)).group()}" in SECTION
