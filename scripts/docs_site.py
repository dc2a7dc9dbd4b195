"""Hooks of mkdocs: the pages that are made from the README, the registry of formulas and the public names."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from griffe import Extension
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import opcount  # noqa: E402  (mkdocs runs this file by its path)
import opcount.formulas  # noqa: E402  (registers the formulas)
from opcount.registry import BUILTIN  # noqa: E402
from opcount.reporter.markdown import code, escaped, table  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

MODULES = ("opcount.errors", "opcount.compat.mmengine", "opcount.compat.fvcore", "opcount.compat.torch")
"""Modules of which the reference shows the docstring."""


class ExamplesSections(Extension):
    """Extension of griffe, which knows a section of examples by its plural alone."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for name, text in {"index.md": start(), "operators.md": operators(), "reference.md": reference()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name what a page links to outside of docs/, which the site does not have."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+[^)]+\)", r"`\1`", markdown)


def start() -> str:
    """Return the README as a page beside the others."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](").replace("[LICENSE](LICENSE)", "`LICENSE`")


def operators() -> str:
    """Return a table of operators with their formulas for each family."""
    families: dict[str, list[list[str]]] = defaultdict(list)
    for target, formulas in sorted(BUILTIN.targets().items(), key=lambda item: str(item[0])):
        for formula in formulas:
            families[formula.family].append([code(str(target)), _formula(formula.text)])
    lines = [
        "# Operators",
        "",
        f"{sum(map(len, families.values()))} formulas, by family. Other operators are priced by a rule for PyTorch's",
        "own tags, declared free, or opened: their kernel runs, and what it calls is counted. What is left is named.",
    ]
    for family, rows in sorted(families.items()):
        lines += ["", f"## {family}", "", *table(["operator", "formula"], rows, words=2)]
    return "\n".join([*lines, ""])


def _formula(text: str) -> str:
    """Return a docstring in a cell of a table: code stays code."""
    parts = re.split(r"`+([^`]+)`+", text)
    return "".join(code(part) if number % 2 else escaped(part) for number, part in enumerate(parts))


def reference() -> str:
    """Return a page that mkdocstrings fills with the docstrings of the public names."""
    names = [f"{opcount._HOMES[name]}.{name}" for name in opcount.__all__]  # noqa: SLF001  (where names are defined)
    return "\n".join(["# Reference", "", *(f"::: {name}\n" for name in [*names, *MODULES])])
