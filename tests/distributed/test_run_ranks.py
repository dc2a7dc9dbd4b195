"""``opcount run`` on several ranks: the merged report, and what is left of a rank that fails."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opcount import Profile
from tests.shims import ROOT, child_environment

SCRIPT = str(ROOT / "tests" / "distributed" / "failing.py")
STEP = 2 * 4 * 8 * 8
"""MACs of a step of one rank: forward, and the gradient of the weight."""


def run(*words):
    environment = child_environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


def left_behind(folder):
    """Return the processes that still run with a path in this folder on their command line."""
    found = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if str(folder) in line]


@pytest.mark.slow
def test_ranks_that_opcount_starts_are_merged_into_one_report(tmp_path):
    report = tmp_path / "whole.json"
    done = run("-m", "opcount", "run", "--nproc", "2", "-o", str(report), SCRIPT, "well")
    assert done.returncode == 0, done.stderr
    profile = Profile.from_json(report.read_text())
    assert profile.macs == 2 * 3 * STEP
    payload = 3 * 4 * (8 * 8 + 8)
    assert profile.communication.by_kind()["all-reduce"] == (3, payload, payload)
    assert "ranks: 2" in done.stderr
    assert list(tmp_path.iterdir()) == [report]
    assert not left_behind(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said", "answered"),
    [
        ("raise", "opcount: run: rank 2 ended with exit code 1.", [0, 1, 2]),
        ("hang", "opcount: run: rank 2 hangs at ", [0, 1, 2]),
        ("killed", "opcount: run: expected a count of each of 3 ranks, got none of rank 2 within 20 s", [0, 1]),
    ],
)
def test_a_rank_that_fails_is_named_and_the_counts_of_the_others_are_written(tmp_path, how, said, answered):
    report = tmp_path / "whole.json"
    options = "--rank-timeout", "20", "-o", str(report), SCRIPT, how
    done = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "opcount", "run", *options)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("opcount: ")]
    assert any(line.startswith(said) for line in lines), done.stderr
    counts = {rank: Profile.from_json((tmp_path / f"whole.rank{rank}.json").read_text()) for rank in answered}
    assert len(list(tmp_path.iterdir())) == len(answered) + 1
    assert all(profile.macs >= STEP for profile in counts.values())
    assert Profile.from_json(report.read_text()).macs == sum(profile.macs for profile in counts.values())
    assert not left_behind(tmp_path)
