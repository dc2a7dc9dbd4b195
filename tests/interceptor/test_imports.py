"""The files of the interceptor can be read one after another: none needs another that needs it."""

from __future__ import annotations

import ast
from pathlib import Path

from opcount import interceptor

FOLDER = Path(interceptor.__file__).parent


def imported(file):
    """Return the files of the folder that a file imports anywhere: in functions and for types, too."""
    nodes = ast.walk(ast.parse(file.read_text()))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    from_package = [
        alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == interceptor.__name__
        for alias in node.names
    ]
    names = [module.removeprefix(f"{interceptor.__name__}.") for module in modules]
    return {name for name in (*names, *from_package) if (FOLDER / f"{name}.py").exists()}


def test_no_files_of_the_interceptor_import_each_other_even_for_types():
    above = {file.stem: imported(file) for file in FOLDER.glob("*.py") if file.stem != "__init__"}
    assert above["per_thread"] >= {"mode", "till"}
    while free := [name for name, needed in above.items() if not needed & above.keys()]:
        for name in free:
            del above[name]
    assert not above, f"in circles, or above one: {above}"
