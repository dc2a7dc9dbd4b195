"""Speedscope files and folded stacks, as the tools that read them see them."""

import json
import re
import shutil
import subprocess
from collections import Counter
from html import unescape
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import jsonschema
import pytest
import torch
from torch import nn

from opcount import OpCounter, Profile
from opcount.reporter import folded, speedscope

SCHEMA = json.loads(Path(__file__).with_name("speedscope.schema.json").read_text())
"""Schema of a sampled profile, of https://www.speedscope.app/file-format-schema.json, unknown keys refused."""

PIXELS = 1200
"""Width of a flame graph; its frames share all but a margin of 10 on each side."""


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.body = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, x):
        return x + self.body(self.norm(x))


class Hostile(nn.Module):
    """Calls a module of another branch, whose name is all that a file format can dislike."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.add_module('<a href="x">&; "\n', nn.Linear(16, 16))

    def forward(self, x):
        return self.get_submodule('<a href="x">&; "\n')(self.blocks(x))


@pytest.fixture(scope="module")
def profile():
    model = Hostile()
    with OpCounter(model) as counter:
        model(torch.ones(4, 16)).sum().backward()
    return counter.profile


def read(profile):
    data = json.loads(speedscope.render(profile))
    jsonschema.Draft7Validator(SCHEMA).validate(data)
    return data


def test_the_schema_refuses_what_speedscope_does_not_know(profile):
    data = read(profile)
    for place, key, value in ((data, "$schema", "x"), (data["profiles"][0], "unit", "FLOP"), (data, "profiles", [])):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                {**data, key: value} if place is data else {**data, "profiles": [{**place, key: value}]}, SCHEMA
            )


def test_a_speedscope_file_is_what_its_schema_says_and_holds_together(profile):
    data = read(profile)
    assert 0 <= data["activeProfileIndex"] < len(data["profiles"])
    names = [frame["name"] for frame in data["shared"]["frames"]]
    assert len(names) == len(set(names))
    for view in data["profiles"]:
        assert len(view["samples"]) == len(view["weights"])
        assert view["endValue"] - view["startValue"] == sum(view["weights"])
        assert {i for stack in view["samples"] for i in stack} <= set(range(len(names)))
        assert all(names[stack[0]] == "model" for stack in view["samples"])
    assert [view["name"] for view in data["profiles"]] == [
        "FLOPs (fvcore)", "macs", "activations", "bytes", "bytes_read", "traffic",
    ]  # fmt: skip
    assert [view["endValue"] for view in data["profiles"]] == [
        profile.flops, profile.macs, profile.activations, profile.total.bytes,
        profile.bytes_read, profile.total.traffic,
    ]  # fmt: skip


def test_a_module_stands_once_in_a_time_order_view(profile):
    data = read(profile)
    names = [frame["name"] for frame in data["shared"]["frames"]]
    stacks = [tuple(names[i] for i in stack[:2]) for stack in data["profiles"][1]["samples"]]
    starts = [stack for before, stack in zip([None, *stacks], stacks, strict=False) if stack != before]
    assert len(starts) == len(set(starts))


def test_speedscope_gets_a_profile_even_of_nothing():
    data = read(Profile())
    assert [(view["samples"], view["endValue"]) for view in data["profiles"]] == [([], 0)]


@pytest.fixture(scope="module")
def flamegraph():
    """Return a function that draws folded stacks with Brendan Gregg's flamegraph.pl: ``name -> numbers and widths``."""
    perl = shutil.which("perl")
    if perl is None:
        pytest.skip("flamegraph.pl is a Perl program, and there is no perl")
    try:
        files = distribution("hprof2flamegraph").files or ()
    except PackageNotFoundError:
        pytest.skip("hprof2flamegraph is not installed")
    script = next(file for file in files if file.name == "flamegraph.pl").locate()

    def draw(text):
        command = [perl, str(script), "--countname=FLOP", f"--width={PIXELS}", "--minwidth=0", "--hash"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        assert "Ignored" not in done.stderr
        title = r'<title>(.*?) \(([\d,]+) FLOP, [\d.]+%\)</title><rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"'
        return [
            (unescape(name), int(number.replace(",", "")), float(width))
            for name, number, _, width in re.findall(title, done.stdout)
        ]

    return draw


def test_folded_stacks_render_as_a_flame_graph(flamegraph, profile):
    drawn = flamegraph(folded.render(profile))
    (whole,) = (number for name, number, _ in drawn if name == "model")
    assert whole == profile.flops
    for _, number, width in drawn:
        assert width == pytest.approx(number / whole * (PIXELS - 20), abs=0.2)


def test_a_flame_graph_shows_every_module_with_its_own_total(flamegraph, profile):
    drawn = Counter({(name, number) for name, number, _ in flamegraph(folded.render(profile))})
    totals = profile.by_module("caller")
    for path in ("blocks", "blocks.0", "blocks.0.body", "blocks.1.norm"):
        assert drawn[path.rpartition(".")[2], totals[path].flops]
    assert drawn['<a_href="x">&:_"_', totals['<a href="x">&; "\n'].flops]


def test_a_flame_graph_of_operators_sums_to_what_they_cost(flamegraph, profile):
    sums = Counter()
    for name, number, _ in flamegraph(folded.render(profile, "macs")):
        sums[name] += number
    for operator, total in profile.by_operator().items():
        assert sums[operator] == total.macs
