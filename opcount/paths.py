"""Dotted paths of modules, and the modules that an operator counts for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
    from typing import Literal

    Ancestors = Literal["owner", "caller"]
    _Folding = tuple[tuple[str, ...], Hashable, tuple[str, ...]]

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


def common_parent(paths: Sequence[str]) -> str:
    """Return the innermost path that all of these are or lie below.

    Example:
        >>> common_parent(["layers.0.attn.q", "layers.0.attn.k"]), common_parent(["layers.0", "layers.1.mlp"])
        ('layers.0.attn', 'layers')
    """
    chains = [parents(path) for path in dict.fromkeys(paths)]
    common: list[str] = [path for path, *others in zip(*chains, strict=False) if {path}.issuperset(others)]
    return common[-1]


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


class Fold(NamedTuple):
    """Alike modules whose paths differ in consecutive numbers.

    Attributes:
        name: ``"layers.0-31.mlp"``; of one module its path.
        paths: All of them.
    """

    name: str
    paths: tuple[str, ...]

    @property
    def times(self) -> str:
        """``" x32"``; empty for one."""
        return f" x{len(self.paths)}" if len(self.paths) > 1 else ""


def fold(facts: Mapping[str, Hashable]) -> list[Fold]:
    """Fold paths with equal facts that differ in consecutive numbers, each where its first one stands.

    Example:
        >>> [each.name + each.times for each in fold({"0.q": 1, "0.k": 1, "1.q": 1, "1.k": 1, "2.k": 5, "4.q": 1})]
        ['0-1.q x2', '0-1.k x2', '2.k', '4.q']
    """
    folds: list[_Folding] = [(tuple(path.split(".")), fact, (path,)) for path, fact in facts.items()]
    for place in range(max((len(parts) for parts, *_ in folds), default=0)):
        folds = _fold_at(folds, place)
    return [Fold(".".join(parts), paths) for parts, _, paths in folds]


def _fold_at(folds: list[_Folding], place: int) -> list[_Folding]:
    """Fold those that differ in one name of their paths alone."""
    alike: dict[Hashable, list[tuple[int, _Folding]]] = {}
    for order, folding in enumerate(folds):
        parts, fact, paths = folding
        number = parts[place] if place < len(parts) else ""
        is_number = number.isdecimal() and len(number) < 19
        key = (parts[:place], parts[place + 1 :], fact, len(paths)) if is_number else order
        alike.setdefault(key, []).append((order, folding))
    found: list[tuple[int, _Folding]] = []
    for group in alike.values():
        if len(group) == 1:
            found += group
            continue
        group.sort(key=lambda row: int(row[1][0][place]))
        start = 0
        for stop in range(1, len(group) + 1):
            if stop == len(group) or not follows(group[stop - 1][1][0][place], group[stop][1][0][place]):
                found.append(_joined(group[start:stop], place))
                start = stop
    return [folding for _, folding in sorted(found, key=lambda row: row[0])]


def _joined(run: list[tuple[int, _Folding]], place: int) -> tuple[int, _Folding]:
    if len(run) == 1:
        return run[0]
    (parts, fact, _), (last, *_) = run[0][1], run[-1][1]
    name = f"{parts[place]}-{last[place]}"
    paths = tuple(path for _, folding in run for path in folding[2])
    return min(order for order, _ in run), ((*parts[:place], name, *parts[place + 1 :]), fact, paths)


def natural(path: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``layers.2`` before ``layers.10``.

    Example:
        >>> sorted(["layers.10", "layers.2", "head"], key=natural)
        ['head', 'layers.2', 'layers.10']
    """
    parts = re.split(r"(\d{1,18})", path)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
