"""A budget: limits on one count, and the check of a profile against them."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from warnings import warn

from opcount.budget.baseline import take
from opcount.budget.limit import MEMORY, Limit, label, naming, read_defaults, read_limits, read_module_limits
from opcount.budget.verdict import Failure, Verdict, below
from opcount.convention import Convention, find_convention
from opcount.coverage import UNCOUNTED, plural
from opcount.errors import BudgetError, UncountedOperatorWarning
from opcount.escapes import printable
from opcount.profile import ROOT, parents
from opcount.records import SENT, TRAFFIC
from opcount.selectors import ModulePattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opcount.budget.baseline import Counts
    from opcount.budget.watch import Watcher
    from opcount.profile import Profile

TRAINING = "training"
"""The phase that stands for all: a training step, of which a backward is part."""


@dataclass(frozen=True)
class Budget:
    """The limits of a region of code. Make one with `Budget.of`.

    Attributes:
        limits: All have to hold.
        phase: The phase that is counted: ``"forward"``, ``"backward"``, ..., or the user's; ``"training"``:
            everything, and there has to be a backward; None: everything.
        convention: Reads the FLOPs; None: the profile's does.
        allow_uncounted: Operators without a formula that may run all the same: all of them, or patterns of names.
    """

    limits: tuple[Limit, ...]
    phase: str | None = None
    convention: Convention | None = None
    allow_uncounted: bool | tuple[str, ...] = False

    @classmethod
    def of(
        cls,
        *limits: str | int,
        modules: Mapping[str, object] | None = None,
        phase: str | None = None,
        metric: str | None = None,
        rtol: float = 0,
        convention: str | Convention | None = None,
        allow_uncounted: bool | Sequence[str] = False,
        who: str = "flop_budget",
        **bounds: str | int | None,
    ) -> Budget:
        """Read a budget as it is written in a test.

        Args:
            limits: Upper bounds: ``"4.2 GMAC"``, ``"8.4 GFLOP"``, ``"11 MACT"`` (activations), ``"25.6 Mparam"``; of
                bytes the metric has to be named, as in ``max_traffic="1.2 GB"``.
            modules: Limits of every module that a pattern names: ``{"layer4.*": "0.9 GMAC"}``. ``*`` stands for one
                name of a path, ``**`` for any number of them. Instead of a quantity, ``{"min": ..., "max": ...}``.
            phase: What is counted; see `Budget`.
            metric: What plain integers and bytes count: a key of `opcount.selectors.UNITS`.
            rtol: How far a count may be beyond its bound, as a share of the bound.
            convention: How FLOPs are read.
            allow_uncounted: Whether operators without a formula may run; or patterns of the names of those that may.
            who: The name at the beginning of an error.
            bounds: ``min``, ``max``, ``exact`` with a unit; or integers as ``max_macs``, ``min_flops``, ...;
                ``memory="1.2 GB"``, the same as ``max_memory``, bounds the peak of live bytes, and ``comm="2 GB"``, the
                same as ``max_buffer_bytes``, the payloads of collectives.

        Raises:
            BudgetError: It cannot be read, or limits nothing.
            ConventionError: There is no such convention.

        Example:
            >>> [str(limit) for limit in Budget.of("4.2 GMAC", exact_params=25_557_032).limits]
            ['4.200 GMAC', 'exactly 25.557 Mparam']
        """
        with naming(who):
            defaults = read_defaults(metric, rtol)
            found = read_limits(limits, bounds, defaults)
            found += [] if modules is None else read_module_limits(modules, defaults)
            if not found:
                raise BudgetError("expected at least one limit, got none. Write one, such as '4.2 GMAC'.")
            reads = None if convention is None else find_convention(convention)
            return cls(tuple(found), _phase(phase), reads, _allowed(allow_uncounted))

    @property
    def bounds_memory(self) -> bool:
        """True if a count has to track live bytes to be checked."""
        return any(limit.metric == MEMORY for limit in self.limits)

    def __str__(self) -> str:
        """Return all limits in one line."""
        words = [f"{limit.modules} {limit}" if limit.modules is not None else str(limit) for limit in self.limits]
        return ", ".join(words) + (f" in {self.phase}" if self.phase else "")

    def check(self, profile: Profile) -> Verdict:
        """Return all ways in which a profile is not within the budget; none if it is.

        Raises:
            BudgetError: A pattern matches no module of the profile, or the profile is of some steps of a loop.
        """
        with naming("Budget.check"):
            need_all_steps(profile)
            part = self.select(profile)
            return Verdict(self._failures(profile, part), part)

    def select(self, profile: Profile) -> Profile:
        """Return the part of a profile that the budget is about, read under its convention."""
        if self.convention is not None:
            profile = profile.with_convention(self.convention)
        if self.phase in (None, TRAINING):
            return profile
        return profile.select(lambda record: record.phase == self.phase)

    def permits(self, operator: str) -> bool:
        """Return whether an operator without a formula may run."""
        if isinstance(self.allow_uncounted, bool):
            return self.allow_uncounted
        return any(fnmatchcase(operator, pattern) for pattern in self.allow_uncounted)

    def _failures(self, profile: Profile, part: Profile) -> Iterator[Failure]:
        if not part.records and any(limit.metric != "params" for limit in self.limits):
            yield Failure(self._nothing(profile))
            return
        if self.phase == TRAINING and not any(record.phase == "backward" for record in part.records):
            yield Failure("0 operators seen in the phase 'backward': does the test call backward()?")
        if any(limit.metric in TRAFFIC for limit in self.limits):
            part.check_traffic()
        rows = _with_memory(take(part).rows, profile, self.phase) if self.bounds_memory else take(part).rows
        places = {limit.modules: _places(limit.modules, part) for limit in self.limits}
        for limit in self.limits:
            yield from _check(limit, part, places[limit.modules], rows)
        yield from self._uncounted(part, places)

    def _nothing(self, profile: Profile) -> str:
        if not profile.records:
            return "0 operators seen: was the model run inside the test?"
        phases = ", ".join(dict.fromkeys(printable(record.phase) for record in profile.records))
        return f"0 operators seen in the phase {self.phase!r}, only in {phases}: does the test run it?"

    def _uncounted(self, part: Profile, places: Mapping[str | None, Sequence[str | None]]) -> Iterator[Failure]:
        """Fail an upper bound over what nobody can price; parameters and bytes are known all the same."""
        odd = part.select(lambda record: record.family == UNCOUNTED and not self.permits(record.operator))
        known = {"params", MEMORY, *TRAFFIC, *SENT}
        upper = [limit for limit in self.limits if limit.highest is not None and limit.metric not in known]
        for path in dict.fromkeys(path for limit in upper for path in places[limit.modules] if odd.records):
            shares = (odd if path is None else below(odd, path)).coverage.uncounted
            if shares:
                calls = ", ".join(f"{printable(n)} ({plural(shares[n].calls, 'call')})" for n in sorted(shares))
                yield Failure(
                    f"{plural(len(shares), 'operator')} without a formula, so the count is a lower bound and no upper "
                    f"limit can hold: {calls}. Register a formula with @opcount.formula, or pass allow_uncounted=True",
                    path=path,
                )
                return


def enforce(budget: Budget, profile: Profile, watcher: Watcher, *, who: str, name: str = "") -> None:
    """Check a profile; warn of uncounted operators that the budget neither permits nor fails over.

    Raises:
        BudgetExceededError: It is not within the budget.
        BudgetError: A pattern of the budget matches no module.
    """
    __tracebackhide__ = True
    verdict = budget.check(profile)
    if verdict:
        watcher.fail((failure.side, failure.text) for failure in verdict.folded())
        before = watcher.before(name) if budget.phase is None else None
        raise verdict.error(who, before, watcher.verbosity)
    if any(not budget.permits(operator) for operator in profile.coverage.uncounted):
        warn(f"{who}: {profile.coverage.verdict()}.", UncountedOperatorWarning, stacklevel=4)


def need_all_steps(profile: Profile) -> None:
    """Refuse a count of some steps of a loop: what it measured is too little, and what it extrapolates is not exact.

    Raises:
        BudgetError: Some steps were not counted.
    """
    if profile.steps is not None and profile.steps.partial:
        raise BudgetError(
            f"expected a count of all that ran, got one {profile.steps.verdict()}. "
            f"Count a step without every=, or all of them with every=1."
        )


def _places(pattern: str | None, part: Profile) -> Sequence[str | None]:
    """Return the paths of the modules that a limit is about; None stands for the whole count."""
    if pattern is None:
        return [None]
    found = ModulePattern(pattern).find(part)
    if not found:
        raise BudgetError(ModulePattern(pattern).explain_no_match(part))
    return found


def _check(limit: Limit, part: Profile, paths: Sequence[str | None], rows: Mapping[str, Counts]) -> Iterator[Failure]:
    if limit.metric == "params" and limit.modules is None and not part.modules:
        yield Failure("parameters are limited, and the count saw no model: pass model=", "params")
        return
    if limit.metric != "params" and limit.modules is not None:
        ran = {path for record in part.records for path in parents(record.path)}
        if ran.isdisjoint(paths):
            shown = f"{limit.modules!r} matches {plural(len(paths), 'module')}"
            yield Failure(f"{shown}, 0 operators seen in any: did they run inside the test?")
    for path in paths:
        count = rows[path or ROOT][limit.metric]
        if not limit.allows(count):
            sentence = limit.explain(count, part.convention.name)
            side = "under" if count < limit.lowest else "over"
            yield Failure(sentence if path is None else f"{label(path)} {sentence}", limit.metric, path, side)


def _with_memory(rows: Mapping[str, Counts], profile: Profile, phase: str | None) -> Mapping[str, Counts]:
    """Return the counts of modules, with the live bytes of each at the peak; of the whole in a phase, with its peak.

    Raises:
        BudgetError: Live bytes were not tracked.
    """
    memory = profile.memory
    if memory is None:
        raise BudgetError(
            "expected a count with live bytes, got one without. Count with OpCounter(model, memory=True), or --memory."
        )
    made = memory.by_module()
    whole = memory.peak if phase in (None, TRAINING) else memory.phase_peaks.get(phase, 0)
    return {path: {**row, MEMORY: made.get(path, 0) if path else whole} for path, row in rows.items()}


def _phase(phase: object) -> str | None:
    if phase is None or (isinstance(phase, str) and phase):
        return phase
    raise BudgetError(
        f"expected a phase such as 'forward' or 'training', got {phase!r} of type {type(phase).__name__}. "
        f"Pass its name, or leave it out to count everything."
    )


def _allowed(allow: object) -> bool | tuple[str, ...]:
    if isinstance(allow, bool):
        return allow
    if isinstance(allow, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in allow):
        return tuple(sorted(allow))
    raise BudgetError(
        f"expected allow_uncounted to be True, False or patterns of operators, got {allow!r} "
        f"of type {type(allow).__name__}. Pass a list such as ['mylib.*']."
    )
