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


FEW_ROUNDS = """
import runpy, sys
sys.path.insert(0, "scripts/bench")
import measure
in_turn = measure._in_turn
measure._in_turn = lambda timed, rounds: in_turn(timed, 1 if rounds < 10 else 5)  # the many are of small differences
folder, *words = sys.argv[1:]
for suite, case in zip(words[::2], words[1::2]):
    sys.argv[1:] = suite, "--case", case, "--json", f"{folder}/{suite}.json"
    try:
        runpy.run_path("scripts/bench", run_name="__main__")
    except SystemExit as end:
        assert not end.code, suite
"""
"""Runs suites one after the other, in one process, for fewer rounds than tell anything."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the folder of what the suites have written, and what they printed."""
    folder = tmp_path_factory.mktemp("bench")
    cases = [case for case in CASES if case[0] != "memory" or sys.platform.startswith("linux")]
    command = [sys.executable, "-c", FEW_ROUNDS, folder, *(word for case in cases for word in case)]
    environment = child_environment(PYTHONPATH=str(STARTUP))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize(("suite", "case"), CASES)
def test_a_suite_runs_and_writes_its_results(results, suite, case):
    if suite == "memory" and not sys.platform.startswith("linux"):
        pytest.skip("the peak of a process is read from /proc")
    folder, printed = results
    rows = json.loads((folder / f"{suite}.json").read_text())
    assert {row["suite"] for row in rows} == {suite}
    assert all(row["case"].startswith(case) and row["value"] > 0 and row["ratio"] > 0 for row in rows)
    assert f"| {suite}" in printed


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
