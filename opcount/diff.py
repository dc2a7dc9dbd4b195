"""Two counts compared, module by module; a module that was renamed is recognised by what it is and does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from opcount.errors import ConventionError
from opcount.profile import ROOT, Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """

    changes: tuple[Change, ...]
    convention: str
    verdicts: tuple[str, str]

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
    return Diff(changes, after.convention.name, (before.coverage.verdict(), after.coverage.verdict()))


class _Side:
    """One of the two counts, by module."""

    def __init__(self, profile: Profile) -> None:
        self.totals = {ROOT: Total(), **profile.by_module()}
        self.modules = profile.modules
        phases = dict.fromkeys(record.phase for record in profile.records)
        self.phases = {phase: profile.select(lambda r, p=phase: r.phase == p).by_module() for phase in phases}  # type: ignore[misc]

    def type(self, path: str) -> str:
        return self.modules[path].type if path in self.modules else ""

    def params(self, path: str | None) -> int:
        return self.modules[path].params if path is not None and path in self.modules else 0

    def total(self, path: str | None, phase: str | None = None) -> Total:
        totals = self.totals if phase is None else self.phases.get(phase, {})
        return totals.get(path, Total()) if path is not None else Total()

    def signature(self, path: str) -> tuple[object, ...]:
        return self.type(path), self.params(path), self.totals[path]


def _match(old: _Side, new: _Side) -> dict[str, str]:
    """Return the old path of each new module that was there before, under that name or another."""
    was = {path: path for path in new.totals if path in old.totals}
    lost = _tops([path for path in old.totals if path not in new.totals])
    for path in _tops([path for path in new.totals if path not in old.totals]):
        twin = _twin(old, new, path, lost)
        if twin is None:
            continue
        lost.remove(twin)
        for below in new.totals:
            if below == path or below.startswith(f"{path}."):
                origin = twin + below[len(path) :]
                if origin in old.totals:
                    was[below] = origin
    return was


def _twin(old: _Side, new: _Side, path: str, lost: list[str]) -> str | None:
    """Return the lost module that a new one was: equal in type and numbers, else the one that left its place."""
    equal = [other for other in lost if old.signature(other) == new.signature(path)]
    if equal:
        return equal[0]
    parent = path.rpartition(".")[0]
    alike = [o for o in lost if old.type(o) == new.type(path) and o.rpartition(".")[0] == parent]
    return alike[0] if len(alike) == 1 else None


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
        phase: (old.total(before, phase), new.total(after, phase))
        for phase in dict.fromkeys([*old.phases, *new.phases])
    }
    return Change(before, after, old.total(before), new.total(after), old.params(before), new.params(after), phases)
