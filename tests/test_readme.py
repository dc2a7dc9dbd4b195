"""README.md and docs/ are true: examples print what the pages show, and what the pages name exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from opcount.cli.formats import FORMATS
from opcount.convention import _ALIASES, CONVENTIONS
from tests.forked import Server
from tests.shims import STARTUP, child_environment

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "opcount"
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "tests/README.md"]
PYTHON = ".venv/bin/python"


def name_of(page):
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


def blocks_of(page):
    """Return each block of a page: its language, its text, and the output that the page shows after it."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    after = [*found, ("", "")][1:]
    return [(*block, text if language == "text" else "") for block, (language, text) in zip(found, after, strict=True)]


def commands_of(page):
    """Return each command of a page that needs nothing but this environment, and what the page shows of its output."""
    for language, block, shown in blocks_of(page):
        if language == "sh":
            for command in re.split(r"&&|\n", block):
                words = shlex.split(command)
                if words and words[0] == PYTHON:
                    yield words[1:], shown
                elif words and words[0] == "opcount" and shown:
                    yield ["-m", *words], shown


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README.read_text(), re.DOTALL | re.MULTILINE).group(1)


def anchors_of(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(STARTUP), str(ROOT)])}


def run(*words):
    environment = child_environment(**ENVIRONMENT)
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def strict():
    """Return a server of processes in which a warning is an error, from the imports of torch and opcount on."""
    server = Server(child_environment(**ENVIRONMENT), "-W", "error")
    yield server
    server.close()


@pytest.mark.parametrize("page", [page for page in PAGES if "\n```python\n" in page.read_text()], ids=name_of)
def test_the_python_examples_of_a_page_run_in_order_and_print_what_follows_them(strict, page):
    examples = [(block, shown) for language, block, shown in blocks_of(page) if language == "python"]
    cut = "-- next example --\n"
    program = f"print({cut!r}, end='')\n".join(block for block, _ in examples)
    done = strict.run([], env=child_environment(**ENVIRONMENT), cwd=ROOT, program=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split(cut) == [shown for _, shown in examples]


@pages
def test_every_block_says_what_it_is_and_no_output_stands_alone(page):
    languages = ["", *(language for language, _, _ in blocks_of(page))]
    assert set(languages[1:]) <= {"python", "sh", "text", "yaml"}
    assert all(before in {"python", "sh"} for before, after in pairwise(languages) if after == "text")


@pages
def test_every_path_that_a_page_names_exists(page):
    ours = [folder.name for folder in PACKAGE.iterdir() if folder.is_dir()]
    folders = "|".join([r"\.ci", r"\.github", "docs", "opcount", "scripts", "tests", *ours])
    named = re.findall(rf"(?<![\w./-])(?:{folders})/(?:[\w./-]*[\w/])?", page.read_text())
    assert [path for path in named if not any((root / path).exists() for root in (ROOT, PACKAGE))] == []


@pages
def test_every_link_of_a_page_leads_to_a_file_or_a_heading(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link


@pages
def test_commands_of_a_page_print_what_follows_them(page):
    for words, shown in commands_of(page):
        done = run(*words)
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout


def test_the_page_on_the_command_line_lists_the_formats_that_it_has():
    page = (ROOT / "docs" / "command-line.md").read_text()
    listed = re.search(r"`--format` is one of ([\w, ]+)\.", page)
    assert listed, "docs/command-line.md: expected a sentence '`--format` is one of table, arch, ... and folded.'"
    assert re.split(", | and ", listed[1]) == list(FORMATS)


def test_the_readme_leads_to_every_page():
    linked = set(re.findall(r"\]\((docs/\w[\w-]*\.md)", README.read_text()))
    assert linked == {name_of(page) for page in PAGES if page.parent.name == "docs"}


def test_the_environments_that_the_pages_name_are_toxs():
    named = {name for page in PAGES for name in re.findall(r"\btox -e (\w+)", page.read_text())}
    assert named
    assert named <= set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.MULTILINE))


@pytest.mark.parametrize("title", ["Run", "Test"])
def test_one_command_alone_does_the_main_job_and_one_runs_the_tests(title):
    (command,) = re.findall(r"^```sh\n(.*?)^```$", section(title), re.DOTALL | re.MULTILINE)
    assert len(command.splitlines()) == 1


def test_the_table_of_conventions_lists_them_all():
    names = re.findall(r"^\| `(\w+)`", section("Conventions"), re.MULTILINE)
    assert names == list(CONVENTIONS)
    assert all(f"`{alias}`" in section("Conventions") for alias in _ALIASES)
