"""The changed modules of a diff in the order that reports show them, those that changed alike folded into one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from opcount.escapes import printable
from opcount.paths import ROOT, follows
from opcount.records import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opcount.diff import Change, Diff


class DiffLine(NamedTuple):
    """One changed module, or several in a row that changed alike.

    Attributes:
        name: What to print: the path, ``"blocks.0-5.mlp x6"`` for several, ``"old -> new"`` of a renamed one.
        change: The sum of their changes.
    """

    name: str
    change: Change


class _Node:
    """A changed module and the changed modules inside it."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.inside: list[_Node] = []

    @property
    def gone(self) -> bool:
        return self.change.after is None

    def facts(self, within: Change | None = None) -> tuple[object, ...]:
        """Return all that must be equal for two modules to share a line, their own places apart."""
        places = tuple(_leaf(path) for path in self.places()) if within is not None else self._kind()
        change = self.change
        numbers = (change.old, change.new, change.old_params, change.new_params, tuple(change.phases.values()))
        return (places, numbers, change.reshaped, tuple(node.facts(change) for node in self.inside))

    def places(self) -> tuple[str | None, str | None]:
        return self.change.before, self.change.after

    def _kind(self) -> tuple[bool, ...]:
        return (*(path is None for path in self.places()), self.change.renamed)


def lines(diff: Diff, differs: Callable[[Change], bool], *, fold: bool) -> list[DiffLine]:
    """Return a line for the whole and for each module that differs, as `opcount.reporter.diff_table.render` explains.

    A module that is new or gone and only holds others, which were there before or are there still, has no line.
    """
    kept = _Kept(diff)
    changes = [c for c in diff.changed if c.path != ROOT and differs(c) and not kept.by_others(c)]
    whole = DiffLine(_label({c.path for c in changes}), diff.total)
    if not fold:
        return [whole, *(DiffLine(_name(c.before, c.after, 1), c) for c in changes)]
    root = _tree(changes, diff.total, kept)
    return [whole, *_lines(root.inside, root, (ROOT, ROOT), 1)]


def _label(paths: set[str]) -> str:
    """Return what the whole is called: ``model``, in parentheses where a module has that name."""
    label = "model"
    while label in paths:
        label = f"({label})"
    return label


class _Kept:
    """Modules of both counts that lie inside modules that are new or gone."""

    def __init__(self, diff: Diff) -> None:
        both = [c for c in diff.changes if c.before is not None and c.after is not None]
        self._new = _inside(diff.changes, [(c.after, c.new, c.new_params) for c in both], new=True)
        self._gone = _inside(diff.changes, [(c.before, c.old, c.old_params) for c in both], new=False)

    def any(self, change: Change) -> bool:
        return change.path in (self._new if change.before is None else self._gone)

    def by_others(self, change: Change) -> bool:
        """Return whether a module that is new or gone costs nothing but the cost of others in it."""
        if change.before is None:
            return self._new.get(change.path) == (change.new, change.new_params)
        return change.after is None and self._gone.get(change.path) == (change.old, change.old_params)


def _inside(
    changes: Iterable[Change], both: Iterable[tuple[str | None, Total, int]], *, new: bool
) -> dict[str, tuple[Total, int]]:
    """Sum the outermost modules of both counts in each module of one count."""
    alone = {c.path for c in changes if (c.before if new else c.after) is None}
    sums: dict[str, tuple[Total, int]] = {}
    for path, total, params in both:
        above = (path or ROOT).rpartition(".")[0]
        while above in alone:
            known = sums.get(above, (Total(), 0))
            sums[above] = known[0] + total, known[1] + params
            above = above.rpartition(".")[0]
    return sums


def _tree(changes: Iterable[Change], whole: Change, kept: _Kept) -> _Node:
    root = _Node(whole)
    nodes: dict[tuple[bool, str], _Node] = {}
    for change in changes:
        node = nodes[change.after is None, change.path] = _Node(change)
        above = _above(nodes, node) or root
        alone = above is not root and None in above.places()
        if not alone or kept.any(above.change):
            above.inside.append(node)
    return root


def _above(nodes: dict[tuple[bool, str], _Node], node: _Node) -> _Node | None:
    """Return the innermost module around one; around one that is gone, it may be there still."""
    path = node.change.path
    while path := path.rpartition(".")[0]:
        found = nodes.get((node.gone, path)) or nodes.get((False, path))
        if found is not None:
            return found
    return None


def _lines(nodes: Sequence[_Node], around: _Node, shown: tuple[str, str], copies: int) -> Iterator[DiffLine]:
    """Yield the lines of modules inside one that is shown under other names: ``blocks.0-5`` for ``blocks.0``."""
    start = 0
    while start < len(nodes):
        stop = start + 1
        while stop < len(nodes) and _continues(nodes[stop - 1], nodes[stop]):
            stop += 1
        first, count = nodes[start], copies * (stop - start)
        before, after = (
            _shown(path, last, above, name)
            for path, last, above, name in zip(
                first.places(), nodes[stop - 1].places(), around.places(), shown, strict=True
            )
        )
        yield DiffLine(_name(before, after, count), _times(first.change, count))
        yield from _lines(first.inside, first, (before or "", after or ""), count)
        start = stop


def _continues(node: _Node, following: _Node) -> bool:
    pairs = [(a, b) for a, b in zip(node.places(), following.places(), strict=True) if a is not None and b is not None]
    return bool(pairs) and all(_next(a, b) for a, b in pairs) and node.facts() == following.facts()


def _next(path: str, following: str) -> bool:
    (above, _, left), (beside, _, right) = path.rpartition("."), following.rpartition(".")
    return above == beside and follows(left, right)


def _shown(path: str | None, last: str | None, above: str | None, name: str) -> str | None:
    """Return the path of a module, or of several from ``path`` to ``last``, below what its parent is shown as."""
    if path is None or last is None:
        return None
    if above and path.startswith(f"{above}."):
        path = name + path[len(above) :]
    return path if _leaf(path) == _leaf(last) else f"{path}-{_leaf(last)}"


def _name(before: str | None, after: str | None, copies: int) -> str:
    times = f" x{copies}" if copies > 1 else ""
    if before and after and before != after:
        return f"{printable(before)} -> {printable(after)}{times}"
    return f"{printable(after or before or '')}{times}"


def _times(change: Change, copies: int) -> Change:
    def total(each: Total) -> Total:
        return Total(*(copies * number for number in each))

    return change._replace(
        old=total(change.old),
        new=total(change.new),
        old_params=copies * change.old_params,
        new_params=copies * change.new_params,
        phases={phase: (total(old), total(new)) for phase, (old, new) in change.phases.items()},
    )


def _leaf(path: str | None) -> str:
    return (path or "").rpartition(".")[2]
