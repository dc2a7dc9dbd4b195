"""The README is true: its examples print what it shows, and what it names exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from opcount.convention import _ALIASES, CONVENTIONS
from tests.shims import STARTUP, child_environment

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON = ".venv/bin/python"


def output_after(number):
    language, text = BLOCKS[number + 1] if number + 1 < len(BLOCKS) else ("", "")
    return text if language == "text" else ""


def our_commands():
    """Return each command that the README runs with the Python of its environment, and what it shows of the output."""
    for number, (language, block) in enumerate(BLOCKS):
        if language == "sh":
            for command in re.split(r"&&|\n", block):
                words = shlex.split(command)
                if words and words[0] == PYTHON:
                    yield words[1:], output_after(number)


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE).group(1)


def run(*words, **kwargs):
    environment = child_environment(PYTHONPATH=os.pathsep.join([str(STARTUP), str(ROOT)]))
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, text=True, capture_output=True, check=False, **kwargs
    )


def test_the_python_examples_run_in_order_and_print_what_follows_them():
    examples = [
        (block, output_after(number)) for number, (language, block) in enumerate(BLOCKS) if language == "python"
    ]
    cut = "-- next example --\n"
    done = run("-W", "error", "-", input=f"print({cut!r}, end='')\n".join(block for block, _ in examples))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split(cut) == [shown for _, shown in examples]


def test_every_block_says_what_it_is_and_no_output_stands_alone():
    languages = [language for language, _ in BLOCKS]
    assert set(languages) <= {"python", "sh", "text"}
    assert all(before != "text" for before, after in pairwise(languages) if after == "text")
    assert languages[0] != "text"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:opcount|scripts|tests|\.ci)/[\w./]*", README))))
def test_every_path_that_the_readme_names_exists(path):
    assert (ROOT / path).exists()


def test_our_commands_print_what_follows_them():
    for words, shown in our_commands():
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout


def test_the_environments_that_the_readme_names_are_toxs():
    named = set(re.findall(r"`(?:-e )?(\w+)`", re.search(r"`tox` with(.*?) at a time", README, re.DOTALL).group(1)))
    assert named <= set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.MULTILINE))


def test_one_command_alone_runs_the_tests():
    assert len(re.findall(r"^```sh$", section("Test"), re.MULTILINE)) == 1
    assert len(re.search(r"```sh\n(.*?)```", section("Test"), re.DOTALL).group(1).splitlines()) == 1


def test_the_table_of_conventions_lists_them_all():
    names = re.findall(r"^\| `(\w+)`", section("Conventions"), re.MULTILINE)
    assert names == list(CONVENTIONS)
    assert all(f"`{alias}`" in section("Conventions") for alias in _ALIASES)
