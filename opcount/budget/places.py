"""Which modules of a profile a pattern names, and what they cost."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

from opcount.errors import BudgetError
from opcount.escapes import printable
from opcount.profile import ROOT, Profile, parents

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
    """Return the paths that a pattern matches: ``*`` stands for one name of a path, or a part of it, ``**`` for any.

    Without a model all paths begin with a class's name, which the pattern may leave out.

    Raises:
        BudgetError: There is no such module; near names are offered.

    Example:
        >>> from opcount.profile import Module
        >>> profile = Profile(modules={path: Module(path, "Linear") for path in ("", "net", "net.0", "net.0.fc")})
        >>> find_modules(profile, "net.*"), find_modules(profile, "net.**")
        (['net.0'], ['net.0', 'net.0.fc'])
    """
    expression = _compile(pattern)
    found = {path: None for path, names in _names(profile).items() if any(map(expression.fullmatch, names))}
    if found:
        return list(found)
    known = [name for names in _names(profile).values() for name in names if name]
    near = get_close_matches(pattern, known, n=3, cutoff=0.4)
    hint = f"Near names: {', '.join(map(printable, near))}." if near else _no_modules(known)
    raise BudgetError(f"{who}: expected a pattern of module paths, got {pattern!r}, which matches none. {hint}")


def params_of(profile: Profile, path: str | None = None) -> int:
    """Return the parameters of a module; of all that ran if no path is given."""
    if path is not None:
        return profile.modules[path].params
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


def _names(profile: Profile) -> dict[str, list[str]]:
    """Return by path what a module may be called: its path, its aliases, and its path below the class's name."""
    named = ROOT in profile.modules
    return {
        path: [path, *module.aliases] + ([] if named else [path.partition(".")[2]])
        for path, module in profile.modules.items()
    }


def _no_modules(known: list[str]) -> str:
    if not known:
        return "The count saw no modules: was the model run inside the test?"
    shown = ", ".join(map(printable, sorted(known, key=natural)[:5]))
    return f"Modules begin with: {shown}."


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    tokens = re.split(r"(\*\*|\*|\?)", pattern)
    wild = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.compile("".join(wild.get(token, re.escape(token)) for token in tokens))
