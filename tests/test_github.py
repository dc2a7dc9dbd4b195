"""Files under ``.github/``: the action that comments a pull request, and the workflow that others call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.shims import child_environment

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".github/actions/flops-diff"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/flops-diff.yml").read_text())
MODEL = """
import torch
from torch import nn

def build():
    return nn.Sequential(*(nn.Conv2d(32, 32, 3, groups={groups}, bias=False) for _ in range(2)))
"""


def steps():
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_the_workflow_gives_the_action_what_it_takes():
    (call,) = [step for step in steps() if step.get("uses", "").startswith("./.opcount/")]
    assert (ROOT / call["uses"].removeprefix("./.opcount/")).resolve() == FOLDER
    assert set(call["with"]) <= set(ACTION["inputs"])
    required = {name for name, given in ACTION["inputs"].items() if given.get("required")}
    assert required <= set(call["with"])


def test_every_input_that_is_used_is_declared():
    declared = {"workflow": WORKFLOW[True]["workflow_call"]["inputs"], "action": ACTION["inputs"]}  # yaml: on is true
    for name, text in {
        "workflow": (ROOT / ".github/workflows/flops-diff.yml").read_text(),
        "action": (FOLDER / "action.yml").read_text(),
    }.items():
        used = set(re.findall(r"\binputs\.(\w+)", text))
        assert used == set(declared[name])


def test_no_input_is_pasted_into_a_script():
    """Inputs go through the environment: a script that they are part of would run them."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]


def test_the_page_on_budgets_shows_both_with_inputs_that_exist():
    page = (ROOT / "docs/budgets.md").read_text()
    workflow, action = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    given = workflow["jobs"]["flops"]["with"]
    assert set(given) <= set(WORKFLOW[True]["workflow_call"]["inputs"])
    assert {"opcount", "target"} <= set(given)
    assert set(action[0]["with"]) <= set(ACTION["inputs"])


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a function that commits a model and returns the commit, in a repository of its own."""
    home = tmp_path / "repository"
    home.mkdir()
    environment = child_environment(
        GIT_CONFIG_GLOBAL=os.devnull, RUNNER_TEMP=str(tmp_path), GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md")
    )
    environment["PYTHONPATH"] += f":{ROOT}"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    command = binaries / "opcount"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m opcount "$@"\n')
    command.chmod(0o755)
    environment["PATH"] = f"{binaries}:{environment['PATH']}"

    def run(*words, **given):
        return subprocess.run(
            words, cwd=home, env={**environment, **given}, capture_output=True, text=True, check=False
        )

    def commit(source):
        (home / "model.py").write_text(source)
        run("git", "add", "-A")
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
        return run("git", "rev-parse", "HEAD").stdout.strip()

    run("git", "init", "-q")
    return commit, run


@pytest.mark.slow
def test_the_action_compares_two_commits_and_fails_where_it_is_too_much(repository, tmp_path):
    commit, run = repository
    first, before = commit("raise SystemExit\n"), commit(MODEL.format(groups=32))
    commit(MODEL.format(groups=1))
    script = str(FOLDER / "diff.sh")
    given = {"TARGET": "model.py:build", "ARGUMENTS": "--shape 32x8x8"}
    done = run("bash", script, BASE=before, FAIL="macs:1%", **given)
    assert done.returncode == 1, done.stderr
    assert "::error::model.py:build: macs grew by +3100.0 %25, and --fail allows 1 %25" in done.stdout
    text = (tmp_path / "opcount/diff.md").read_text()
    assert text.startswith("### model.py:build: FLOPs of this change\n\n**macs grew by +3100.0 %, and --fail allows ")
    assert "`weight 32x1x3x3 -> 32x32x3x3`" in text
    assert (tmp_path / "summary.md").read_text() == text
    done = run("bash", script, BASE=first, **given)
    assert done.returncode == 0, done.stderr
    assert "It cannot be counted at the base" in (tmp_path / "opcount/diff.md").read_text()
    assert len(run("git", "worktree", "list").stdout.splitlines()) == 1


def test_the_action_says_that_it_needs_a_base(repository):
    _, run = repository
    done = run("bash", str(FOLDER / "diff.sh"), BASE="", TARGET="model.py")
    assert done.returncode == 2
    assert done.stdout.startswith("::error::flops-diff: expected a commit to compare with, got none.")
