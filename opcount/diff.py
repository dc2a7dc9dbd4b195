"""Two counts compared, module by module; a renamed module is recognised by its class and its numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from opcount.communication import Communication
from opcount.errors import ConventionError
from opcount.paths import ROOT
from opcount.records import BATCH, INPUTS, Total, phases_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opcount.live_memory import LiveMemory
    from opcount.profile import Profile


_CIRCUMSTANCES = (INPUTS, BATCH, "mode", "optimizer")
"""Keys in the provenance of what a number depends on beside the model; how it ran changes no number."""


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
        reshaped: Its own parameters and inputs with another shape: ``"weight 32x1x3x3 -> 32x32x3x3"``.
    """

    before: str | None
    after: str | None
    old: Total
    new: Total
    old_params: int
    new_params: int
    phases: Mapping[str, tuple[Total, Total]]
    reshaped: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The path now; of a module that is gone, the path it had."""
        return self.after if self.after is not None else self.before or ROOT

    @property
    def renamed(self) -> bool:
        """True if the module has another path than before."""
        return self.before is not None and self.after is not None and self.before != self.after

    @property
    def is_change(self) -> bool:
        """True if anything but the module's name differs."""
        return self.old != self.new or self.old_params != self.new_params or None in (self.before, self.after)

    def values(self, metric: str) -> tuple[int, int]:
        """Return the old and the new number of a metric: ``"params"``, or a field of `Total`."""
        if metric == "params":
            return self.old_params, self.new_params
        return getattr(self.old, metric), getattr(self.new, metric)


@dataclass(frozen=True)
class Diff:
    """All modules of two counts, compared.

    Attributes:
        changes: All modules of both counts, the second's in its order, then those that are gone.
        convention: Of both counts.
        verdicts: The coverage of both counts, a line each.
        steps: Which steps of a loop both counts are of, a line each; ``""`` where everything was counted.
        knows_traffic: Whether both counts have the bytes read; if not, no module's bytes differ.
        differences: What else than the model was another: ``("inputs", before, after)``, the mode, the optimizer.
        memory: The live bytes of both counts; None where one of them did not track them.
        communication: What collectives moved in both counts.
    """

    changes: tuple[Change, ...]
    convention: str
    verdicts: tuple[str, str]
    steps: tuple[str, str] = ("", "")
    differences: tuple[tuple[str, str, str], ...] = ()
    knows_traffic: bool = True
    memory: tuple[LiveMemory, LiveMemory] | None = None
    communication: tuple[Communication, Communication] = (Communication(), Communication())

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
    verdicts = before.coverage.verdict(), after.coverage.verdict()
    steps = _steps(before), _steps(after)
    differences = tuple(_differences(before, after))
    knows_traffic = before.knows_traffic and after.knows_traffic
    if not knows_traffic:
        before, after = map(_without_bytes, (before, after))
    alike = all(name != INPUTS for name, *_ in differences)
    changes = compare_sides(*(Side.of(side, with_inputs=alike) for side in (before, after)))
    memory = None if before.memory is None or after.memory is None else (before.memory, after.memory)
    sent = before.communication, after.communication
    return Diff(changes, after.convention.name, verdicts, steps, differences, knows_traffic, memory, sent)


def _without_bytes(profile: Profile) -> Profile:
    """Return a profile without the bytes, which versions count in different ways."""
    return replace(profile, records=tuple(r._replace(bytes_read=0, bytes_written=0) for r in profile.records))


def _differences(before: Profile, after: Profile) -> Iterator[tuple[str, str, str]]:
    """Yield the circumstances that both counts know and that are not the same."""
    for name in _CIRCUMSTANCES:
        old, new = (side.provenance.get(name) for side in (before, after))
        if old is not None and new is not None and old != new:
            yield name, old, new


def compare_sides(old: Side, new: Side) -> tuple[Change, ...]:
    """Return all modules of both counts, the second's in its order, then those that are gone."""
    was = _match(old, new)
    known = set(was.values())
    gone = [path for path in old.totals if path not in known]
    pairs = [(was.get(path), path) for path in new.totals] + [(path, None) for path in gone]
    return tuple(_change(old, new, path, now) for path, now in pairs)


def _steps(profile: Profile) -> str:
    return "" if profile.steps is None else profile.steps.verdict()


class Side:
    """One of two counts, by module.

    Args:
        totals: By path, children included.
        params: By path, children included.
        types: The names of the modules' classes by path; empty where nobody knows them.
        phases: The totals of each phase.
        shapes: Of the parameters and inputs of each module, by name; empty where nobody knows them.
    """

    def __init__(
        self,
        totals: Mapping[str, Total],
        params: Mapping[str, int],
        types: Mapping[str, str] | None = None,
        phases: Mapping[str, Mapping[str, Total]] | None = None,
        shapes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.totals = {ROOT: Total(), **totals}
        self.phases = phases or {}
        self._params = params
        self._types = types or {}
        self._shapes = shapes or {}
        self._inside: dict[str, list[str]] = {path: [] for path in self.totals}
        for path in self.totals:
            if path:
                self._inside.setdefault(path.rpartition(".")[0], []).append(path)

    @classmethod
    def of(cls, profile: Profile, *, with_inputs: bool = True) -> Side:
        """Return a profile's modules; without inputs where those of the model differ, and so all of them."""
        return cls(
            profile.by_module(),
            {path: module.params for path, module in profile.modules.items()},
            {path: module.type for path, module in profile.modules.items()},
            {
                phase: profile.select(lambda r, p=phase: r.phase == p).by_module()  # type: ignore[misc]
                for phase in profile.by_phase()
            },
            {
                path: shapes_by_name(module.weights, module.inputs if with_inputs else "")
                for path, module in profile.modules.items()
            },
        )

    def type(self, path: str) -> str:
        """Return the name of a module's class; empty where it is not known."""
        return self._types.get(path, "")

    def shapes(self, path: str | None) -> Mapping[str, str]:
        """Return the shapes of a module's parameters and inputs; none for None."""
        return {} if path is None else self._shapes.get(path, {})

    def params(self, path: str | None) -> int:
        """Return the parameters of a module; 0 for None."""
        return 0 if path is None else self._params.get(path, 0)

    def total(self, path: str | None, phase: str | None = None) -> Total:
        """Return what a module counted, in one phase or in all; nothing for None."""
        totals = self.totals if phase is None else self.phases.get(phase, {})
        return totals.get(path, Total()) if path is not None else Total()

    def children(self, path: str) -> list[str]:
        """Return the paths one name below a module's."""
        return self._inside.get(path, [])

    def below(self, path: str) -> list[str]:
        """Return a path and all below it, parents first."""
        found = [path]
        for each in found:
            found += self.children(each)
        return found

    def signature(self, path: str) -> tuple[object, ...]:
        """Return all that is equal in a module that was only renamed."""
        return self.type(path), self.params(path), self.totals[path]

    def parts(self, path: str) -> frozenset[tuple[str, str]]:
        """Return what a module is made of, whatever the sizes: the path below it and the class of each module inside.

        Where no class is known, modules that cost nothing are left out: whoever stores counts may do without them.
        """
        return frozenset(
            (each[len(path) :], self.type(each))
            for each in self.below(path)[1:]
            if self._types or self.params(each) or any(self.total(each))
        )


class _Lost:
    """Candidates: modules of the first count whose path is free, each of which may have been renamed."""

    def __init__(self, old: Side, new: Side, replaced: Iterable[str]) -> None:
        gone = [path for path in old.totals if path not in new.totals]
        tops = set(_tops(gone))
        self._old = old
        self._gone = dict.fromkeys(path for path in gone if path in tops or old.children(path))
        self._replaced = dict.fromkeys(replaced)
        self._by: dict[object, list[str]] = defaultdict(list)
        for path in (*self._gone, *self._replaced):
            for key in self._keys(old, path):
                self._by[key].append(path)

    def twin(self, new: Side, path: str) -> str | None:
        """Return the candidate that a new module was before: one that is equal in type and numbers.

        Else the only one that is made of the same parts; else the only one of its class that left the same parent.
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
        """Remove a matched module, its descendants and its ancestors from the candidates.

        Return whether a new module has its path.
        """
        moved = twin in self._replaced
        parts = twin.split(".")
        for path in (*self._old.below(twin), *(".".join(parts[:i]) for i in range(1, len(parts)))):
            self._gone.pop(path, None)
            self._replaced.pop(path, None)
        return moved

    def _free(self, key: object) -> Iterator[str]:
        return (path for path in self._by.get(key, ()) if path in self._gone or path in self._replaced)

    @staticmethod
    def _keys(side: Side, path: str) -> Iterator[object]:
        yield "equal", side.signature(path)
        if parts := side.parts(path):
            yield "parts", side.type(path), parts
        if side.type(path):
            yield "place", side.type(path), path.rpartition(".")[0]


def _match(old: Side, new: Side) -> dict[str, str]:
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


def _change(old: Side, new: Side, before: str | None, after: str | None) -> Change:
    phases = {
        phase: (old.total(before, phase), new.total(after, phase))
        for phase in phases_in_order([*old.phases, *new.phases])
    }
    totals, params = (old.total(before), new.total(after)), (old.params(before), new.params(after))
    return Change(before, after, *totals, *params, phases, tuple(_reshaped(old.shapes(before), new.shapes(after))))


def shapes_by_name(weights: str, inputs: str = "") -> dict[str, str]:
    """Return shapes by name from the text of a `Module`.

    Example:
        >>> shapes_by_name("weight=64x3x7x7 bias=64", "1x3x224x224")
        {'weight': '64x3x7x7', 'bias': '64', 'input': '1x3x224x224'}
    """
    shapes = {name: shape for name, _, shape in (each.rpartition("=") for each in weights.split(" ") if each)}
    return {**shapes, "input": inputs} if inputs else shapes


def _reshaped(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Yield the shapes of parameters that differ, where both sides know some; where none do, those of the inputs.

    A parameter that came or went has none on one side.
    """
    weights = [[name for name in side if name != "input"] for side in (old, new)]
    names = dict.fromkeys([*weights[0], *weights[1]] if all(weights) else [])
    changed = [name for name in names if old.get(name) != new.get(name)]
    for name in changed or [*({"input"} & old.keys() & new.keys())]:
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
