"""``opcount run --world`` and ``opcount size``: a program as ranks that are not there."""

from __future__ import annotations

import json

import pytest

from opcount.cli import main
from opcount.profile import Profile

PROGRAM = """
import os, sys
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("nccl")
rank, world = dist.get_rank(), dist.get_world_size()
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], sys.argv[1:])
layer = nn.Linear(100, 100, bias=False).cuda()
x = torch.randn(world if rank else 1, 100, device="cuda")
if rank:
    dist.recv(x, src=rank - 1)
x = layer(x)
if rank + 1 < world:
    dist.send(x, dst=rank + 1)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["opcount"])
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    file = tmp_path / "train.py"
    file.write_text(PROGRAM)
    return file


def test_a_program_runs_as_a_rank_that_is_not_there(program, tmp_path, capsys):
    out = tmp_path / "rank.json"
    assert main(["run", "--world", "64", "--rank", "9", "-o", str(out), str(program), "--lr", "1"]) == 0
    assert "rank 9 of 64 ['--lr', '1']" in capsys.readouterr().out
    profile = Profile.from_json(out.read_text())
    assert profile.macs == 64 * 100 * 100
    assert profile.provenance["run"] == "rank 9 of 64, dry"
    assert profile.memory.peak == 4 * (100 * 100 + 2 * 64 * 100)
    assert profile.communication.by_kind()["send"].buffer_bytes == 4 * 64 * 100


def test_a_rank_of_each_kind_stands_for_all_and_is_sized(program, tmp_path, capsys):
    out = tmp_path / "world.json"
    assert main(["run", "--world", "5", "--ranks", "representative", "-o", str(out), str(program)]) == 0
    kinds = [(kind["rank"], kind["count"]) for kind in json.loads(out.read_text())["kinds"]]
    assert kinds == [(0, 1), (2, 3), (4, 1)]
    text = capsys.readouterr().err
    assert " 210.000 k" in text  # (1 + 3 x 5 + 5) x 100 x 100 MACs
    assert main(["size", str(out), "--on", "H100-SXM5", "--link", "default_pg=400Gbit/s"]) == 0
    text = capsys.readouterr().out
    assert "rank 2 (3 of 5): communication over default_pg 80.000 ns" in text  # 2 x 2,000 bytes at 50 GB/s


def test_a_rank_without_a_world_is_refused(program, capsys):
    assert main(["run", "--rank", "3", str(program)]) == 2
    assert "expected --world beside --rank" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--link", "dp"], "--link: expected a group and a rate"),
        (["--tokens", "many"], "expected a number such as 4096, 16.8M or 15T, got 'many'"),
    ],
)
def test_words_that_are_no_numbers_are_refused(tmp_path, capsys, options, message):
    file = tmp_path / "rank.json"
    file.write_text(Profile().to_json())
    assert main(["size", str(file), "--on", "H100-SXM5", *options]) == 2
    assert message in capsys.readouterr().err
