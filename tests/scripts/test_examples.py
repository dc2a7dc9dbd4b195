"""The examples of training loops run, and print what they measure."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.shims import ROOT, STARTUP, child_environment


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_plain.py", "train_accelerate.py"])
def test_a_training_loop_prints_its_utilization(name):
    if name == "train_accelerate.py":
        pytest.importorskip("accelerate", reason="an extra")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "scripts/examples" / name), "H100-SXM5"],
        env=child_environment(PYTHONPATH=f"{STARTUP}:{ROOT}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["step 50", "step 100"]
    for line in lines:
        assert re.search(
            r"50 steps, 4\d timed in .* s, .*tokens/s, .*FLOP/s, MFU .* %, HFU .* % of H100-SXM5-80GB", line
        )
