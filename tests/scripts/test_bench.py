"""The benchmarks run; what they measure is nothing for a test."""

import json
import subprocess
import sys

import pytest

from tests.shims import ROOT, STARTUP, child_environment

CASES = [
    ("overhead", "mm"),
    ("tracking", "mm"),
    ("modules", "module call"),
    ("training", "LSTM"),
    ("every", "2 small layers"),
    ("dryruns", "LSTM"),
    ("memory", "LSTM"),
]


@pytest.mark.parametrize(("suite", "case"), CASES)
def test_a_suite_runs_and_writes_its_results(tmp_path, suite, case):
    if suite == "memory" and not sys.platform.startswith("linux"):
        pytest.skip("the peak of a process is read from /proc")
    file = tmp_path / "results.json"
    command = [sys.executable, "scripts/bench", suite, "--case", case, "--json", file]
    environment = child_environment(PYTHONPATH=str(STARTUP))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    assert {row["suite"] for row in results} == {suite}
    assert all(row["case"].startswith(case) and row["value"] > 0 and row["ratio"] > 0 for row in results)
    assert f"| {suite}" in done.stdout


def test_an_unknown_suite_is_named():
    done = subprocess.run(
        [sys.executable, "scripts/bench", "spead"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2
    assert "expected suites of" in done.stderr
    assert "got spead" in done.stderr


def test_memory_on_a_gpu_is_predicted_on_a_cpu(tmp_path):
    file = tmp_path / "predicted.json"
    case = "lstm fp32, AdamW foreach, 32 x 128"
    command = [sys.executable, "scripts/bench/gpu_memory.py", "predict", file, "--on", "H100-SXM5", "--case", case]
    environment = child_environment(PYTHONPATH=str(STARTUP))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["device"] == "H100-SXM5-80GB"
    assert found["cases"][case]["requested"] <= found["cases"][case]["allocated"] <= found["cases"][case]["reserved"]
    assert found["cases"][case]["categories"]["optimizer state"] > 100e6
