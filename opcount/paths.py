"""Dotted paths of modules, and the modules that an operator counts for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from typing import Literal

    Ancestors = Literal["owner", "caller"]

ROOT = ""
"""The path of the model itself, and of operators outside any of its modules."""


def parents(path: str) -> list[str]:
    """Return the path, its dotted parents, and the root.

    Example:
        >>> parents("layer1.0.conv")
        ['', 'layer1', 'layer1.0', 'layer1.0.conv']
    """
    if path == ROOT:
        return [ROOT]
    parts = path.split(".")
    return [ROOT, *(".".join(parts[: i + 1]) for i in range(len(parts)))]


def ancestors_of(stack: tuple[str, ...], mode: str) -> Iterable[str]:
    """Return the paths of the modules that an operator counts for.

    Args:
        stack: The paths of the modules that were running, the root first.
        mode: ``"owner"`` or ``"caller"``.

    Raises:
        ValueError: ``mode`` is neither.

    Example:
        >>> list(ancestors_of(("", "head", "stem.conv"), "owner"))
        ['', 'stem', 'stem.conv']
        >>> list(ancestors_of(("", "head", "stem.conv"), "caller"))
        ['', 'head', 'stem.conv']
    """
    if mode == "owner":
        return parents(stack[-1])
    if mode == "caller":
        return dict.fromkeys((ROOT, *stack))
    raise ValueError(f"by_module: expected 'owner' or 'caller', got {mode!r} of type {type(mode).__name__}.")


def unknown_parents(path: str, known: Container[str]) -> Iterator[str]:
    """Yield a path and its parents, the innermost first, up to one that is known."""
    while path not in known:
        yield path
        path = path.rpartition(".")[0]


def parents_first(paths: Iterable[str]) -> dict[str, None]:
    """Return all paths as keys, the root first and parents before children; missing parents are added."""
    found: dict[str, None] = {ROOT: None}
    for path in paths:
        if path.rpartition(".")[0] in found:
            found[path] = None
            continue
        found.update(dict.fromkeys(reversed(list(unknown_parents(path, found)))))
    return found


def by_parent(paths: Iterable[str]) -> dict[str, list[str]]:
    """Group paths by parent, each group in order; the root has no parent.

    Example:
        >>> by_parent(["", "a", "b", "a.c"])
        {'': ['a', 'b'], 'a': ['a.c']}
    """
    groups: dict[str, list[str]] = {}
    for path in paths:
        if path:
            groups.setdefault(path.rpartition(".")[0], []).append(path)
    return groups


def follows(name: str, following: str) -> bool:
    """Return whether two names are consecutive numbers, as those of repeated blocks are.

    Example:
        >>> follows("9", "10"), follows("9", "11"), follows("fc1", "fc2")
        (True, False, False)
    """
    numbers = name.isdecimal() and following.isdecimal() and len(name) < 19  # longer ones cost time, or are refused
    return numbers and len(following) < 20 and int(name) + 1 == int(following)
