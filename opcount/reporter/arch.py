"""``repr(model)``, with a line of statistics for every module, as mmengine prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.errors import InputError
from opcount.escapes import printable, visible
from opcount.reporter.complexity_table import Complexity
from opcount.reporter.numbers import openmmlab

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opcount.profile import Profile
    from opcount.structure import Node, Structure

NOT_CALLED = (
    "N/A indicates a possibly missing statistic due to how the module was called. "
    "Missing values are still included in the parent's total.\n"
)


def render(profile: Profile, structure: Structure | None) -> str:
    """Return the annotated architecture of a model that was counted.

    Raises:
        InputError: There is no model: a stored profile has none.
    """
    if structure is None:
        raise InputError("--format: arch needs the model, and a stored profile has none. Use tree, or `opcount count`.")
    totals = profile.by_module()
    columns = {
        "flops": {path: total.flops for path, total in totals.items()},
        "acts": {path: total.activations for path, total in totals.items()},
    }
    silent = {path for path, module in profile.modules.items() if not module.calls and not totals[path].calls}
    text = arch(Complexity(structure, columns, dict.fromkeys(columns, silent)))
    return f"{text.rstrip()}\n\nconvention: {profile.convention.name}\ncoverage: {profile.coverage.verdict()}\n"


def arch(complexity: Complexity) -> str:
    """Return the text; modules whose statistics are all 0 have none, modules without an operator ``N/A``."""
    statistics = _statistics(complexity)
    text = "\n".join(_lines(complexity.structure.root, "", statistics))
    return NOT_CALLED + text if any(complexity.uncalled.values()) else text


def _statistics(complexity: Complexity) -> dict[str, str]:
    """Return the line of every module that has one, by full name."""
    uncalled: set[str] = set().union(*complexity.uncalled.values())
    kept = uncalled or {""}
    lines = {}
    for name in complexity.structure.modules:
        numbers: dict[str, float] = {"params": complexity.structure.params.get(name, 0)}
        numbers |= {column: counts.get(name, 0) for column, counts in complexity.columns.items()}
        if name not in kept and not any(numbers.values()):
            continue
        texts = {column: openmmlab(number, 2) for column, number in numbers.items()}
        texts |= {column: "N/A" for column, names in complexity.uncalled.items() if name in names}
        lines[name] = ", ".join(f"#{column}: {text}" for column, text in texts.items())
    return lines


def _lines(node: Node, path: str, statistics: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of one module; `path` is its place, where a shared module has no statistics but at its first."""
    extra = [visible(line) for line in node.extra.split("\n")] if node.extra else []
    if path in statistics and path == node.path:
        extra.append(statistics[path])
    if not node.children and len(extra) <= 1:
        yield f"{printable(node.type)}({''.join(extra)})"
        return
    yield f"{printable(node.type)}("
    for line in extra:
        yield f"  {line}"
    for key, child in node.children:
        yield from _child_lines(key, child, path, statistics)
    yield ")"


def _child_lines(key: str, child: Node | None, path: str, statistics: Mapping[str, str]) -> Iterator[str]:
    if child is None:
        yield f"  ({printable(key)}): None"
        return
    lines = _lines(child, f"{path}.{key}" if path else key, statistics)
    yield f"  ({printable(key)}): {next(lines)}"
    for line in lines:
        yield f"  {line}"
