"""The modules of a profile in the order and depth that reports show them, repeated blocks folded into one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.escapes import printable
from opcount.paths import ROOT, by_parent, follows, parents_first, unknown_parents
from opcount.records import SENT, SHAPES, TRAFFIC, Total
from opcount.selectors import ModulePattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opcount.profile import Profile

SORT_KEYS = ("macs", "arith", "flops", "activations", "params", "calls", "bytes", *TRAFFIC, *SENT)

_ZERO = Total()


class ModuleLine(NamedTuple):
    """One module, or several equal ones in a row.

    Attributes:
        level: Depth below the first line.
        path: Of the module; of the first one, if there are several.
        name: What to print: the path's last part, ``"0-31"`` for several.
        type: The class's name.
        copies: How many modules the line stands for; its numbers are their sum.
        total: Children included.
        params: Children included.
        ran: Whether the module was called, or an operator was charged to it.
    """

    level: int
    path: str
    name: str
    type: str
    copies: int
    total: Total
    params: int
    ran: bool


def outline(
    profile: Profile,
    *,
    depth: int | None = None,
    fold: bool = True,
    sort: str | None = None,
    modules: str | None = None,
    columns: Sequence[str] | None = None,
) -> list[ModuleLine]:
    """Return the lines of a report, callers before what they call.

    Args:
        profile: What to show.
        depth: Modules below this depth are left out; the root is at 0. None: none are.
        fold: Whether equal modules with consecutive numbers become one line, ``0-31``.
        sort: Children in descending order of this number, in place of the model's order.
        modules: A pattern, `opcount.selectors.ModulePattern`: only modules that match, and their parents.
        columns: What is shown of a module: where these are facts of its own, modules are equal only with equal facts.

    Raises:
        ValueError: ``sort`` is no number of a module.
    """
    if sort is not None and sort not in SORT_KEYS:
        raise ValueError(f"sort: expected one of {', '.join(SORT_KEYS)}, got {sort!r}. Pass one of these names.")
    if sort in TRAFFIC:
        profile.check_traffic()
    shapes = not SHAPES.isdisjoint(columns or ())
    return list(_Outline(profile, sort, modules, fold=fold, shapes=shapes).lines(depth))


class _Outline:
    def __init__(self, profile: Profile, sort: str | None, modules: str | None, *, fold: bool, shapes: bool) -> None:
        self._fold = fold
        self._shapes = shapes
        self._known = profile.modules
        self._totals = profile.by_module()
        self._totals.setdefault(ROOT, Total())
        paths = parents_first(self._totals)
        kept = self._kept(paths if modules is None else ModulePattern(modules).find(profile))
        self._children = by_parent(path for path in paths if path in kept)
        if sort is not None:
            for group in self._children.values():
                group.sort(key=self._sort_key(sort), reverse=True)
        self._signatures: dict[str, int] = {}
        if fold:
            self._sign(paths)

    def lines(self, depth: int | None) -> Iterator[ModuleLine]:
        pending = [(0, ROOT, "model", 1, 1)]
        while pending:
            level, path, name, count, copies = pending.pop()
            yield self._line(level, path, name, count, copies)
            if depth is None or level < depth:
                groups = self._groups(self._children.get(path, []))
                pending += [(level + 1, first, shown, n, n * copies) for first, shown, n in reversed(list(groups))]

    def _line(self, level: int, path: str, name: str, count: int, copies: int) -> ModuleLine:
        total = self._totals.get(path, _ZERO)
        module = self._known.get(path)
        return ModuleLine(
            level,
            path,
            name if count == 1 else f"{name} x{count}",
            printable(module.type) if module else "",
            copies,
            total if copies == 1 else Total(*(copies * number for number in total)),
            copies * module.params if module else 0,
            bool(total.calls or (module is not None and module.calls)),
        )

    def _groups(self, paths: list[str]) -> Iterator[tuple[str, str, int]]:
        """Yield the first path, the name to print and the length of each run of equal, consecutive modules."""
        start = 0
        while start < len(paths):
            stop = start + 1
            while self._fold and stop < len(paths) and self._continues(paths[stop - 1], paths[stop]):
                stop += 1
            name = _name(paths[start])
            yield paths[start], name if stop == start + 1 else f"{name}-{_name(paths[stop - 1])}", stop - start
            start = stop

    def _continues(self, path: str, following: str) -> bool:
        left, right = _leaf(path), _leaf(following)
        return follows(left, right) and self._signatures[path] == self._signatures[following]

    def _sign(self, paths: dict[str, None]) -> None:
        """Give equal modules equal numbers, children before parents."""
        numbers: dict[Any, int] = {}
        for path in reversed(list(paths)):
            module = self._known.get(path)
            below = tuple((_leaf(child), self._signatures[child]) for child in self._children.get(path, ()))
            facts: tuple[object, ...] = (module.type, module.params, module.calls) if module else ()
            if module and self._shapes:
                facts += module.inputs, module.outputs, module.kernel
            self._signatures[path] = numbers.setdefault((self._totals.get(path), below, *facts), len(numbers))

    def _kept(self, paths: Iterable[str]) -> set[str]:
        """Return those of the paths that have a number to show, and their parents."""
        kept = {ROOT}
        for path in paths:
            known = self._known.get(path)
            if any(self._totals.get(path, _ZERO)[:4]) or (known is not None and known.params):
                kept.update(unknown_parents(path, kept))
        return kept

    def _sort_key(self, sort: str) -> Callable[[str], int]:
        if sort == "params":
            return lambda path: self._known[path].params if path in self._known else 0
        return lambda path: int(getattr(self._totals.get(path, _ZERO), sort))


def _name(path: str) -> str:
    return printable(_leaf(path)) or "''"


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]
