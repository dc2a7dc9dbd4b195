"""Contents of an installation, and its dependencies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from email import message_from_string
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import opcount
from opcount import Cost, Profile
from opcount._torch.lookup import SUPPORTED
from opcount.profile import Module, Record

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
WORKFLOW = ROOT / ".github/workflows/tests.yml"

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import json, pickle
from opcount import Cost, Profile, Convention
left, right = (Profile.from_json(text) for text in json.load(sys.stdin))
both = left + right
both = pickle.loads(pickle.dumps(both))
print(both.macs, both.by_module()["fc"].macs, both.with_convention("full").flops, both.coverage.verdict())
print(Profile.from_json(both.to_json()) == both)
str(both)
assert "torch" not in {name.split(".")[0] for name, module in sys.modules.items() if module is not None}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from what the repository holds, as pip would, without fetching the build backend."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "opcount", source / "opcount", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(source)], cwd=source, check=True, capture_output=True)
    with ZipFile(next(source.glob("*.whl"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def profile(macs):
    record = Record(("", "fc"), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(macs, 0, 10))
    modules = {path: Module(path, "Linear", params=100, calls=1) for path in ("", "fc")}
    return Profile(records=(record,), modules=modules)


def test_a_profile_loads_prints_and_merges_where_torch_is_not_installed():
    texts = json.dumps([profile(100).to_json(), profile(50).to_json()])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], input=texts, cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["150 150 300 every operator is accounted for", "True"]  # full: 2 x 150


def test_importing_opcount_imports_no_torch():
    code = "import sys, opcount; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"


SLOW = ("torch._dynamo", "torch._inductor", "sympy", "pandas")
"""Modules that take longer to import than most programs to count."""


@pytest.mark.parametrize("module", ["opcount.counter", "opcount.compat.mmengine", "opcount.budget"])
def test_importing_and_counting_loads_nothing_slow(module):
    code = (
        "import sys, torch, opcount; from torch import nn\n"
        f"before = set(sys.modules); import {module}\n"
        "model = nn.Linear(2, 3)\n"
        "with opcount.OpCounter(model): model(torch.ones(1, 2)).sum().backward()\n"
        f"print([name for name in {SLOW} if name in set(sys.modules) - before])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"


def test_every_public_name_can_be_imported():
    assert sorted(set(opcount.__all__)) == sorted(opcount.__all__)
    for name in opcount.__all__:
        assert getattr(opcount, name) is not None
        assert name in dir(opcount)


def test_a_name_that_does_not_exist_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="module 'opcount' has no attribute 'OpCuonter'"):
        opcount.OpCuonter  # noqa: B018  (looking it up is the test)


def test_the_wheel_holds_every_source_file_and_says_that_it_is_typed(wheel):
    folder = ROOT / "opcount"
    files = (path for path in folder.rglob("*") if path.suffix in {".py", ".js", ".css", ".html"})
    sources = {str(path.relative_to(ROOT)) for path in files}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == sources | {"opcount/py.typed", "opcount/devices.toml"}


def test_the_wheel_carries_the_licence(wheel):
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


def test_run_time_needs_are_torch_numpy_and_prettytable_alone(metadata):
    needs = {re.match(r"[\w-]+", line).group() for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert needs == {"torch", "numpy", "prettytable"}


def test_the_version_of_the_package_is_the_one_in_its_source(metadata):
    assert metadata["Version"] == opcount.__version__


def test_the_top_level_holds_what_it_should_and_nothing_else():
    ignored = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines())]
    names = {path.name for path in ROOT.iterdir() if not any(fnmatch(path.name, pattern) for pattern in ignored)}
    files = {".gitignore", ".pre-commit-config.yaml", "CITATION.cff", "LICENSE", "README.md"}
    files |= {"mkdocs.yml", "pyproject.toml", "tox.ini"}
    assert names - {"scripts"} == files | {".ci", ".github", "docs", "opcount", "tests"}


@pytest.mark.slow
def test_an_installation_from_the_wheel_alone_counts_and_is_a_plugin(wheel, tmp_path):
    """In an environment that has this one's dependencies, and not the repository."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    binaries = home / ("Scripts" if os.name == "nt" else "bin")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}

    def run(*words):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(binaries / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel.filename)
    site = next(home.rglob("site-packages"))
    libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "dependencies.pth").write_text("\n".join(libraries) + "\n")
    code = "import opcount, pathlib; print(pathlib.Path(opcount.__file__).parent)"
    assert run(binaries / "python", "-c", code).strip() == str(site / "opcount")
    (tmp_path / "model.py").write_text("from torch import nn\n\ndef build(): return nn.Linear(10, 20)\n")
    assert "total: 200 MAC = 400 FLOP at 2 per MAC" in run(binaries / "opcount", "model.py", "--input", "1x10")
    (tmp_path / "test_it.py").write_text(
        "import torch\n\ndef test_it(op_counter):\n"
        "    torch.ones(2, 3) @ torch.ones(3, 4)\n    assert op_counter.macs == 24\n"
    )
    assert "1 passed" in run(binaries / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")


def test_the_citation_names_the_version_and_the_licence(metadata):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == metadata["Version"]
    assert citation["license"] == metadata["License-Expression"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_everything_runs_with_the_pytorch_that_the_readme_names():
    (pinned,) = re.findall(r"torch==([\d.]+)", README)
    assert re.findall(r"^deps = torch==\{env:TORCH:([\d.]+)\}$", (ROOT / "tox.ini").read_text(), re.MULTILINE) == [
        pinned
    ]


def test_the_versions_that_are_said_to_be_supported_are_those_that_are_installed_and_tested(metadata):
    first, last = re.search(r"PyTorch 2\.(\d+) to 2\.(\d+)", README).groups()
    supported = [f"2.{minor}" for minor in range(int(first), int(last) + 1)]
    assert f"{supported[0]} to {supported[-1]}" == SUPPORTED
    needs = next(line for line in metadata.get_all("Requires-Dist") if line.startswith("torch") and ";" not in line)
    assert set(needs.removeprefix("torch").split(",")) == {f">=2.{first}", f"<2.{int(last) + 1}"}
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    counted = jobs["smoke"]["strategy"]["matrix"]["torch"]
    assert [version.rpartition(".")[0] for version in counted] == supported
    matrix = jobs["versions"]["strategy"]["matrix"]
    assert set(matrix["torch"]) <= set(counted)
    classifier = "Programming Language :: Python :: 3."
    pythons = [line for line in metadata.get_all("Classifier") if line.startswith(classifier)]
    assert matrix["python"] == [line.rpartition(" ")[2] for line in pythons]
    assert metadata["Requires-Python"] == f">={matrix['python'][0]}"


def test_the_workflow_runs_the_readmes_test_command_and_an_environment_of_tox():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {
        "readme": [".ci/run"],
        "versions": ["pip install tox", "tox -e test"],
        "smoke": ["python scripts/matrix ${{ matrix.torch }}"],
    }
    assert "^## Test" in (ROOT / ".ci/run").read_text()


def test_hooks_before_a_commit_take_the_versions_of_the_extra_dev(metadata):
    dev = [line.partition(";")[0].strip() for line in metadata.get_all("Requires-Dist") if 'extra == "dev"' in line]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pins = [pin for hook in repository["hooks"] for pin in hook.get("additional_dependencies", [])]
    assert pins
    assert set(pins) <= set(dev)


def test_the_readme_of_the_tests_names_every_folder_and_every_file_beside_it():
    tests = ROOT / "tests"
    folders = {f"{path.parent.relative_to(tests)}/" for path in tests.rglob("*") if path.is_file()} - {"./"}
    files = {path.name for path in tests.iterdir() if path.is_file()} - {"__init__.py", "README.md"}
    named = re.findall(r"^\| `([\w./]+)` \|", (tests / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(files | {folder for folder in folders if "__pycache__" not in folder})


def test_the_design_page_lists_the_layers_of_the_import_contracts():
    contracts = (ROOT / "pyproject.toml").read_text()
    (layers,) = re.findall(r"^layers = \[\n(.*?)^\]", contracts, re.DOTALL | re.MULTILINE)
    rows = re.findall(r'^    "(.*?)"', layers, re.MULTILINE)
    page = (ROOT / "docs/design.md").read_text()
    table = page.partition("| layer of `opcount/` |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| ((?:`\w+` )+)\|", table, re.MULTILINE)
    assert [re.findall(r"\w+", row) for row in shown] == [re.findall(r"\w+", row) for row in rows]
