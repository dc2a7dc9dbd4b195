"""The comparison in docs/comparison.md and README.md is true: each number is counted again by its tool."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts import compare
from tests.features import VERSION, WHOLE
from tests.shims import child_environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/comparison.md").read_text()
SECTION = PAGE.partition("\n## ")[0]
SCRIPT = str(ROOT / "scripts/compare.py")


def table_of(page):
    """Return the lines of the table of MACs in a page."""
    return re.search(r"^\| MACs of one forward .*?(?=\n\n)", page, re.DOTALL | re.MULTILINE).group().splitlines()


def run(*words):
    environment = child_environment()
    environment["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def counts():
    """Count in a process of its own: some of the tools patch PyTorch, and never quite undo it."""
    tools = [tool for tool in compare.TOOLS if tool == "FlopCounterMode" or find_spec(tool.lower())]
    return json.loads(run(SCRIPT, "--here", *tools))


@pytest.mark.parametrize("tool", compare.TOOLS)
def test_every_number_of_the_comparison_is_what_that_tool_reports(tool, counts):
    if tool not in counts:
        pytest.skip(f"{tool} is not installed: `python scripts/compare.py` installs it")
    if tool == "FlopCounterMode" and VERSION != WHOLE:
        pytest.skip("it is a part of PyTorch, and the page tells of that of 2.13")
    assert compare.row(tool, counts[tool]) in table_of(PAGE)


def test_opcount_reports_what_the_closed_form_says():
    closed, ours = table_of(PAGE)[2:4]
    assert closed == compare.row("closed form", [program.macs for program in compare.PROGRAMS])
    assert ours == closed.replace("closed form", "opcount")


def test_mmengine_counts_as_fvcore_does():
    code = """
import json, sys, torch
from mmengine.analysis import FlopAnalyzer
from scripts.compare import PROGRAMS
with torch.no_grad():
    print(json.dumps([FlopAnalyzer(p.model().eval(), torch.ones(p.shape)).total() for p in PROGRAMS]))
"""
    counts = json.loads(run("-W", "ignore", "-c", code).splitlines()[-1])
    assert compare.row("fvcore", counts) in table_of(PAGE)


def test_the_readme_has_the_same_table():
    assert table_of((ROOT / "README.md").read_text()) == table_of(PAGE)


def test_the_script_prints_the_rows_that_it_is_asked_for():
    out = run(SCRIPT, "--tools", "opcount").splitlines()
    assert out[:4] == table_of(PAGE)[:4]


def test_a_tool_that_cannot_be_installed_is_named_and_its_row_has_no_numbers(monkeypatch, capsys):
    absent = compare.Tool(compare.by_opcount, ("--no-index opcount-has-no-such-peer",))
    monkeypatch.setitem(compare.TOOLS, "absent", absent)
    monkeypatch.setattr(sys, "argv", ["compare.py", "--tools", "absent"])
    assert compare.main() == 1
    out = capsys.readouterr().out
    assert "| absent | not counted |" in out
    assert "absent cannot be installed: ERROR: No matching distribution found" in out


@pytest.mark.parametrize("tool", ["deepspeed", "fvcore", "mmengine", "thop", "ptflops", "calflops", "torchinfo"])
def test_the_comparison_names_the_version_of_every_tool(tool):
    pinned = next((p for t in compare.TOOLS.values() for p in t.packages if p.startswith(f"{tool}==")), None)
    if pinned is None:
        try:
            pinned = f"{tool}=={version(tool)}"
        except PackageNotFoundError:
            pytest.skip(f"{tool} is not installed")
    assert re.search(rf"{tool} {re.match(r'[0-9]+[.][0-9]+[.][0-9]+', pinned.partition('==')[2]).group()}\b", SECTION)
