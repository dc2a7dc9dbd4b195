"""Who may touch what: the walls that the import contracts do not see."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import opcount

PACKAGE = Path(opcount.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
INSIDE = {"interceptor", "scope", "dryrun"}
INTERNALS = {
    "_current_autograd_node",
    "_current_graph_task_id",
    "_dispatch_has_kernel_for_dispatch_key",
    "_get_dispatch_mode",
    "_get_dispatch_stack_at",
    "_get_sequence_nr",
    "_len_torch_dispatch_stack",
    "_pop_torch_dispatch_stack",
    "_push_on_torch_dispatch_stack",
    "_python_dispatch",
    "_op_dk",
    "TorchDispatchMode",
    "TorchFunctionMode",
    "redispatch",
    "register_backward_hook",
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "register_post_accumulate_grad_hook",
    "set_multithreading_enabled",
    "set_stance",
}
"""Names of PyTorch's dispatch modes, module and tensor hooks, and autograd internals."""

RUN_TIME = {"numpy", "opcount", "prettytable", "torch"}
"""What a file may import when it is imported itself; everything else is for those who installed an extra."""

HOSTS = {"pytest_plugin": {"pytest"}}
"""Files that only another program imports, and that program."""


def relative(path):
    return path.relative_to(PACKAGE)


def layer(path):
    return relative(path).with_suffix("").parts[0]


def names(tree):
    """Return every name that a file reads, imports or looks up."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_only_layer_4_and_dry_runs_touch_dispatch_modes_hooks_and_autograd(path):
    found = INTERNALS & set(names(ast.parse(path.read_text())))
    assert layer(path) in INSIDE or not found


def test_layer_4_and_dry_runs_are_where_the_internals_are():
    touching = {layer(path) for path in SOURCES if INTERNALS & set(names(ast.parse(path.read_text())))}
    assert touching == INSIDE  # or the test above looks for names that nobody uses any more


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_importing_a_file_needs_only_the_run_time_dependencies(path):
    allowed = RUN_TIME | HOSTS.get(layer(path), set()) | sys.stdlib_module_names
    assert set(imported_packages(ast.parse(path.read_text()))) <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(relative(path)))
def test_every_file_says_in_its_first_lines_what_it_is_for(path):
    source = path.read_text()
    assert not source or ast.get_docstring(ast.parse(source))
