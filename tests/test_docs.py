"""The site that ``tox -e docs`` builds, and the notebooks of docs/."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import opcount
from opcount.registry import BUILTIN
from tests.shims import child_environment

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "mkdocs.yml"
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
PRINTED = {
    "look": ["coverage: every operator is accounted for", "weight 64x32x3x3 -> 64x1x3x3"],
    "training": ["eager roofline time: ", "device: mine (float32 50 TFLOP/s, 1 TB/s; given by the user)"],
}


def leaves(nav):
    if isinstance(nav, str):
        return [nav]
    return [leaf for each in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(each)]


def test_the_site_leads_to_every_page():
    made = {"index.md", "operators.md", "reference.md"}
    nav = yaml.safe_load(CONFIG.read_text())["nav"]
    assert sorted(leaves(nav)) == sorted(made | {path.name for path in (ROOT / "docs").glob("*.md")})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    environment = child_environment()
    environment["PYTHONPATH"] += f":{ROOT}"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_the_site_builds_without_a_warning_and_lists_every_formula(site):
    import opcount.formulas  # noqa: F401, PLC0415  (registers them)

    text = text_of(site / "operators/index.html")
    lines = set(map(str.strip, text.splitlines()))
    assert [str(target) for target in BUILTIN.targets() if str(target) not in lines] == []


def test_the_reference_has_every_public_name_with_its_docstring(site):
    text = text_of(site / "reference/index.html")
    for name in opcount.__all__:
        first = getattr(opcount, name).__doc__.strip().splitlines()[0].replace("`", "")
        assert re.sub(r"\W+", " ", first) in re.sub(r"\W+", " ", text), name


def test_the_start_of_the_site_is_the_readme(site):
    page = (site / "index.html").read_text()
    assert 'src="images/report.png"' in page
    assert 'href="counting/"' in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # a diff shows what was written alone
    client.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in outputs)
    assert all(text in printed for text in PRINTED[path.stem])
    assert any("text/html" in output.get("data", {}) for output in outputs) == (path.stem == "look")
