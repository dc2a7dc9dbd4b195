"""Rules for the files of the package that the import contracts do not see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import opcount
from opcount._torch.lookup import check_version, need

PACKAGE = Path(opcount.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
"""Lines of a file, beyond which it holds more than one idea."""
DOOR = "_torch"
"""The only folder that knows private names of PyTorch."""

RUN_TIME = {"numpy", "opcount", "prettytable", "torch"}
"""Packages that a file may import when it is imported itself; everything else is for those who installed an extra."""

HOSTS = {"pytest_plugin": {"pytest"}, "integrations": {"lightning", "pytorch_lightning", "transformers"}}
"""Files that only another program imports, and that program."""


FACADE = (
    {("opcount.profile", f"opcount.{name}") for name in ("diff", "serialize")}
    | {("opcount.profile", f"opcount.reporter.{name}") for name in ("amounts", "explain", "html", "suffixes", "table")}
    | {("opcount.devices", "opcount.machine")}
)
"""Methods that print, compare or save a profile, or measure a device: what they import, when they are called, reads
profiles, or makes devices."""

PROTOCOLS = {"check", "dump", "load", "parse", "read", "render", "run", "write"}
"""Functions that several files have, to be called by the name of the file: ``serialize.load``, ``table.render``."""


def relative(path):
    return path.relative_to(PACKAGE)


def layer(path):
    return relative(path).with_suffix("").parts[0]


def at_import(body):
    """Return the statements that run when a file is imported, whatever they stand in."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from at_import(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, field, ()))


def imported_packages(tree):
    for node in at_import(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def names_of_pytorch(tree):
    """Yield what a file imports of PyTorch: the full name, and what the file calls it."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                if f"{origin}{alias.name}".split(".")[0] == "torch":
                    yield f"{origin}{alias.name}", (alias.asname or alias.name).split(".")[0]


def private_names(tree):
    """Return the private names of PyTorch that a file imports, reaches from what it imports, or spells."""
    imported = dict(names_of_pytorch(tree))
    nodes = list(ast.walk(tree))
    chains = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)]
    reached = [chain for chain in chains if chain.split(".")[0] in imported.values()]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = " ".join(filter(None, (ast.get_docstring(node, clean=False) for node in nodes if isinstance(node, kinds))))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    spelled = [text for text in texts if "torch._" in text and text not in docs]
    return [name for name in (*imported, *reached) if is_private(name)] + spelled


def is_private(dotted):
    return any(part.startswith("_") and not part.startswith("__") for part in dotted.split("."))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_private_names_of_pytorch_are_behind_one_door(path):
    if layer(path) != DOOR:
        assert not private_names(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted((PACKAGE / DOOR).glob("*.py")), ids=lambda path: path.stem)
def test_an_import_of_private_names_says_what_is_missing(path):
    tree = ast.parse(path.read_text())
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    explained = [child for block in blocks if ast.unparse(block.items[0]) == "needed()" for child in block.body]
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    bare = [node for node in imports if node not in explained]
    assert not any(private_names(ast.Module([node], [])) for node in bare)


@pytest.mark.parametrize("missing", ["torch._C.DispatchKeySet", "torch._ops.OpOverloadPacket", "torch._prims_common"])
def test_an_import_that_fails_names_what_is_missing(missing):
    owner = missing.rpartition(".")[0]
    hide = f"sys.modules[{missing!r}] = None; " if missing == "torch._prims_common" else f"del {missing}; "
    program = f"import sys, torch, {owner}; {hide}import opcount; opcount.OpCounter"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert re.search(
        rf"ImportError: opcount: expected {re.escape(missing)}, which PyTorch .* lacks\. Install", done.stderr
    )


@pytest.mark.parametrize(
    "source",
    [
        "from torch._C import DispatchKey",
        "from torch.jit import _builtins",
        "import torch._functorch.autograd_function as f",
        "import torch\nx = torch._C._len_torch_dispatch_stack",
        "from torch import Tensor\nmake = Tensor._make_subclass",
        "name = 'torch._dynamo.eval_frame'",
        "import torch\nx = torch.ops.aten._softmax.default",
    ],
)
def test_a_private_name_of_pytorch_is_found_however_it_is_reached(source):
    assert private_names(ast.parse(source))


def test_a_private_name_that_this_pytorch_lacks_is_named_with_the_remedy():
    with pytest.raises(ImportError, match=r"expected torch\._C\._no_such_name, which PyTorch .* lacks\. Install"):
        need("_C._no_such_name")


def test_a_newer_pytorch_is_warned_of_and_an_older_one_refused():
    check_version("2.15.2+cpu")
    with pytest.warns(UserWarning, match=r"tested with PyTorch 2\.1 to 2\.15, got 2\.16\.0\.dev20270101"):
        check_version("2.16.0.dev20270101")
    with pytest.raises(ImportError, match=r"expected PyTorch 2\.1 to 2\.15, got 2\.0\.1\. Install a newer PyTorch"):
        check_version("2.0.1")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_importing_a_file_needs_only_the_run_time_dependencies(path):
    allowed = RUN_TIME | HOSTS.get(layer(path), set()) | sys.stdlib_module_names
    assert set(imported_packages(ast.parse(path.read_text()))) <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_every_file_says_in_its_first_lines_what_it_is_for(path):
    source = path.read_text()
    assert not source or ast.get_docstring(ast.parse(source))


def module_name(path):
    return ".".join(("opcount", *relative(path).with_suffix("").parts)).removesuffix(".__init__")


def imported_files(tree, names):
    """Return the package's files that a file imports: in functions, and for annotations, too."""
    nodes = list(ast.walk(tree))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & names) or {node.module}
    return found & names


def test_no_files_import_each_other_in_a_circle_not_even_in_functions_or_for_types():
    trees = {module_name(path): ast.parse(path.read_text()) for path in SOURCES}
    graph = {name: imported_files(tree, set(trees)) - {name} for name, tree in trees.items()}
    for above, below in FACADE:
        graph[above].remove(below)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_name_of_a_class_or_a_public_function_has_one_meaning_in_the_package():
    owners = [
        (node.name, path)
        for path in SOURCES
        if layer(path) not in {"compat", "formulas", "integrations", "traffic"}  # named by others, and by operators
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))
    ]
    shared = {name for name, count in Counter(name for name, _ in owners).items() if count > 1} - PROTOCOLS
    assert not {name: [module_name(path) for owner, path in owners if owner == name] for name in shared}


def texts_alone(tree):
    """Return the strings that stand alone: docstrings, and those of attributes."""
    alone = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return [node.value for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_no_file_of_the_package_is_long():
    assert not [path for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST]


@pytest.mark.parametrize("folder", ["opcount", "scripts", "tests"])
def test_a_docstring_begins_with_a_noun_or_a_verb(folder):
    riddle = re.compile(r"\s*(What|Which|How|Whether|Who|Whose|Where|Why|Of|It|They|There|Does|Tell whether)\b")
    for path in (Path(__file__).parents[1] / folder).rglob("*.py"):
        assert not [text for text in texts_alone(ast.parse(path.read_text())) if riddle.match(text)], path
