"""Which modules of a profile a pattern names, and what they cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.errors import BudgetError
from opcount.escapes import printable
from opcount.profile import ROOT, Profile, parents
from opcount.selectors import ModulePattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount.profile import Record


def need_all_steps(profile: Profile, who: str) -> None:
    """Refuse a count of some steps of a loop: what it measured is too little, and what it extrapolates is not exact.

    Raises:
        BudgetError: Some steps were not counted.
    """
    if profile.steps is not None and profile.steps.partial:
        raise BudgetError(
            f"{who}: expected a count of all that ran, got one {profile.steps.verdict()}. "
            f"Count a step without every=, or all of them with every=1."
        )


def find_modules(profile: Profile, pattern: str, who: str = "flop_budget") -> list[str]:
    """Return the paths that a pattern matches.

    Raises:
        BudgetError: There is no such module; near names are offered.
    """
    found = ModulePattern(pattern).find(profile)
    if not found:
        raise BudgetError(f"{who}: {ModulePattern(pattern).explain_no_match(profile)}")
    return found


def params_of(profile: Profile, path: str | None = None) -> int:
    """Return the parameters of a module; of all that ran if no path is given."""
    if path is not None:
        return profile.modules[path].params if path in profile.modules else 0
    if ROOT in profile.modules:
        return profile.params
    return sum(module.params for module in profile.modules.values() if "." not in module.path)


def below(profile: Profile, path: str) -> Profile:
    """Return the profile of one module, its children included."""
    return profile.select(lambda record: path in parents(record.path))


def label(path: str) -> str:
    """Return how a module's path is printed: the root has none, and what is called like its label stands in quotes."""
    return "'(model)'" if path == "(model)" else printable(path) or "(model)"


def biggest_call(records: Iterable[Record]) -> Record | None:
    """Return the record of the most multiply-accumulates, or other arithmetic."""
    return max(records, key=lambda record: record.cost[:2], default=None)


def depth_of(path: str) -> int:
    """Return of how many names a path consists."""
    return path.count(".") + 1 if path else 0


def natural(path: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``layers.2`` before ``layers.10``.

    Example:
        >>> sorted(["layers.10", "layers.2", "head"], key=natural)
        ['head', 'layers.2', 'layers.10']
    """
    parts = re.split(r"(\d{1,18})", path)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
