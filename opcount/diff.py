"""Two counts compared, module by module; a module that was renamed is recognised by what it is and does."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from opcount.errors import ConventionError
from opcount.profile import ROOT, Total, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opcount.profile import Profile


class Change(NamedTuple):
    """One module in two counts.

    Attributes:
        before: Its path in the first count; None if it is new.
        after: Its path in the second count; None if it is gone.
        old: Its total in the first count, children included.
        new: Its total in the second count.
        old_params: Elements of its parameters, children included.
        new_params: The same in the second count.
        phases: ``(old, new)`` by phase.
    """

    before: str | None
    after: str | None
    old: Total
    new: Total
    old_params: int
    new_params: int
    phases: Mapping[str, tuple[Total, Total]]

    @property
    def path(self) -> str:
        """The path now; of a module that is gone, the path it had."""
        return self.after if self.after is not None else self.before or ROOT

    @property
    def renamed(self) -> bool:
        """Whether the module has another path than before."""
        return self.before is not None and self.after is not None and self.before != self.after

    @property
    def is_change(self) -> bool:
        """Whether anything but the module's name differs."""
        return self.old != self.new or self.old_params != self.new_params or None in (self.before, self.after)

    def values(self, metric: str) -> tuple[int, int]:
        """Return the old and the new number of a metric: ``"params"``, or a field of `Total`."""
        if metric == "params":
            return self.old_params, self.new_params
        return getattr(self.old, metric), getattr(self.new, metric)


@dataclass(frozen=True)
class Diff:
    """What `Profile.diff` returns.

    Attributes:
        changes: All modules of both counts, the second's in its order, then those that are gone.
        convention: Of both counts.
        verdicts: The coverage of both counts, a line each.
        steps: Which steps of a loop both counts are of, a line each; ``""`` where everything was counted.
    """

    changes: tuple[Change, ...]
    convention: str
    verdicts: tuple[str, str]
    steps: tuple[str, str] = ("", "")

    @property
    def total(self) -> Change:
        """The change of the whole."""
        return next(change for change in self.changes if change.path == ROOT)

    @property
    def changed(self) -> tuple[Change, ...]:
        """The modules of which more than the name differs."""
        return tuple(change for change in self.changes if change.is_change)

    @property
    def causes(self) -> tuple[Change, ...]:
        """The innermost changed modules: those that explain the others."""
        paths = {change.path for change in self.changed}
        explained = {path.rpartition(".")[0] for path in paths if path} | ({ROOT} if len(paths) > 1 else set())
        return tuple(change for change in self.changed if change.path not in explained)


def compare(before: Profile, after: Profile) -> Diff:
    """Return what changed from one count to another.

    Raises:
        ConventionError: They are read under different conventions.
    """
    if before.convention.name != after.convention.name:
        raise ConventionError(
            f"diff: expected two profiles of one convention, got {before.convention.name!r} and "
            f"{after.convention.name!r}. Call with_convention() on one of them first."
        )
    old, new = _Side(before), _Side(after)
    was = _match(old, new)
    gone = [path for path in old.totals if path not in set(was.values())]
    pairs = [(was.get(path), path) for path in new.totals] + [(path, None) for path in gone]
    changes = tuple(_change(old, new, path, now) for path, now in pairs)
    verdicts = before.coverage.verdict(), after.coverage.verdict()
    steps = _steps(before), _steps(after)
    return Diff(changes, after.convention.name, verdicts, steps)


def _steps(profile: Profile) -> str:
    return "" if profile.steps is None else profile.steps.verdict()


class _Side:
    """One of the two counts, by module."""

    def __init__(self, profile: Profile) -> None:
        self.totals = {ROOT: Total(), **profile.by_module()}
        self.modules = profile.modules
        self.phases = {
            phase: profile.select(lambda r, p=phase: r.phase == p).by_module()  # type: ignore[misc]
            for phase in profile.by_phase()
        }
        self._inside: dict[str, list[str]] = {path: [] for path in self.totals}
        for path in self.totals:
            if path:
                self._inside.setdefault(path.rpartition(".")[0], []).append(path)

    def type(self, path: str) -> str:
        return self.modules[path].type if path in self.modules else ""

    def params(self, path: str | None) -> int:
        return self.modules[path].params if path is not None and path in self.modules else 0

    def total(self, path: str | None, phase: str | None = None) -> Total:
        totals = self.totals if phase is None else self.phases.get(phase, {})
        return totals.get(path, Total()) if path is not None else Total()

    def children(self, path: str) -> list[str]:
        return self._inside.get(path, [])

    def below(self, path: str) -> list[str]:
        """Return a path and all below it, parents first."""
        found = [path]
        for each in found:
            found += self.children(each)
        return found

    def signature(self, path: str) -> tuple[object, ...]:
        return self.type(path), self.params(path), self.totals[path]

    def plan(self, path: str) -> tuple[str, frozenset[tuple[str, str]]]:
        """Return what a module is made of, whatever the sizes: the classes of all below it, and its own."""
        parts = frozenset((each[len(path) :], self.type(each)) for each in self.below(path)[1:])
        return self.type(path), parts


class _Lost:
    """Modules of the first count that a module of the second may have been: those whose path is free."""

    def __init__(self, old: _Side, new: _Side, replaced: Iterable[str]) -> None:
        gone = [path for path in old.totals if path not in new.totals]
        tops = set(_tops(gone))
        self._old = old
        self._gone = dict.fromkeys(path for path in gone if path in tops or old.children(path))
        self._replaced = dict.fromkeys(replaced)
        self._by: dict[object, list[str]] = defaultdict(list)
        for path in (*self._gone, *self._replaced):
            for key in self._keys(old, path):
                self._by[key].append(path)

    def twin(self, new: _Side, path: str) -> str | None:
        """Return the module that a new one was before.

        It is equal in type and numbers; else the only one made of the same parts; else the one that left its place.
        """
        equal, *others = self._keys(new, path)
        for other in self._free(equal):
            if other in self._gone or not path.startswith(f"{other}."):  # what it wraps now has its place still
                return other
        for key in others:
            alike = list(islice((other for other in self._free(key) if other in self._gone), 2))
            if len(alike) == 1:
                return alike[0]
        return None

    def take(self, twin: str) -> bool:
        """Offer a module, what is inside it and what it is in no more; tell whether another one has its place."""
        moved = twin in self._replaced
        parts = twin.split(".")
        for path in (*self._old.below(twin), *(".".join(parts[:i]) for i in range(1, len(parts)))):
            self._gone.pop(path, None)
            self._replaced.pop(path, None)
        return moved

    def _free(self, key: object) -> Iterator[str]:
        return (path for path in self._by.get(key, ()) if path in self._gone or path in self._replaced)

    @staticmethod
    def _keys(side: _Side, path: str) -> Iterator[object]:
        yield "equal", side.signature(path)
        if side.children(path):
            yield "parts", side.plan(path)
        yield "place", side.type(path), path.rpartition(".")[0]


def _match(old: _Side, new: _Side) -> dict[str, str]:
    """Return the old path of each new module that was there before, under that name or another."""
    was = {path: path for path in new.totals if path in old.totals}
    other = [path for path in was if old.type(path) != new.type(path) and old.signature(path) != new.signature(path)]
    lost = _Lost(old, new, other)
    taken = set(was)
    pending = _tops([path for path in new.totals if path not in old.totals])[::-1]
    while pending:
        path = pending.pop()
        twin = lost.twin(new, path)
        if twin is None:
            pending += reversed(new.children(path))
            continue
        if lost.take(twin):
            taken.difference_update(was.pop(below, "") for below in new.below(twin))
        origins = {below: twin + below[len(path) :] for below in new.below(path)}
        was |= {below: origin for below, origin in origins.items() if origin in old.totals and origin not in taken}
        taken.update(origins.values())
    return was


def _tops(paths: Iterable[str]) -> list[str]:
    """Return the paths that lie below no other of them."""
    tops: dict[str, None] = {}
    for path in paths:
        parts = path.split(".")
        if not any(".".join(parts[:i]) in tops for i in range(1, len(parts))):
            tops[path] = None
    return list(tops)


def _change(old: _Side, new: _Side, before: str | None, after: str | None) -> Change:
    phases = {
        phase: (old.total(before, phase), new.total(after, phase)) for phase in in_order([*old.phases, *new.phases])
    }
    return Change(before, after, old.total(before), new.total(after), old.params(before), new.params(after), phases)
