"""A budget: limits on one count, and the check of a profile against them."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from opcount.budget.limit import Limit, read_limits, read_module_limits, read_writing
from opcount.budget.places import below, find_modules, label, need_all_steps, params_of
from opcount.budget.units import count_of
from opcount.convention import Convention, find_convention
from opcount.coverage import plural
from opcount.errors import BudgetError
from opcount.escapes import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opcount.profile import Profile

TRAINING = "training"
"""The phase that stands for all: a training step, of which a backward is part."""


class Failure(NamedTuple):
    """One way in which a profile is not within a budget.

    Attributes:
        text: The sentence, without the name of the test.
        metric: What it is about.
        path: The module; None for the whole count.
    """

    text: str
    metric: str = "macs"
    path: str | None = None


@dataclass(frozen=True)
class Budget:
    """What a region of code may compute. Make one with `Budget.of`.

    Attributes:
        limits: All have to hold.
        phase: Only what ran in it is counted: ``"forward"``, ``"backward"``, ..., or the user's; ``"training"``:
            everything, and there has to be a backward; None: everything.
        convention: How FLOPs are read; None: as the profile reads them.
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
            limits: Upper bounds: ``"4.2 GMAC"``, ``"8.4 GFLOP"``, ``"11 MACT"`` (activations), ``"25.6 Mparam"``.
            modules: Limits of every module that a pattern names: ``{"layer4.*": "0.9 GMAC"}``. ``*`` stands for one
                name of a path, ``**`` for any number of them. Instead of a quantity, ``{"min": ..., "max": ...}``.
            phase: What is counted; see `Budget`.
            metric: What plain integers count: ``"macs"``, ``"flops"``, ``"activations"`` or ``"params"``.
            rtol: How far a count may be beyond its bound, as a share of the bound.
            convention: How FLOPs are read.
            allow_uncounted: Whether operators without a formula may run; or patterns of the names of those that may.
            who: Whom an error names.
            bounds: ``min``, ``max``, ``exact`` with a unit; or integers as ``max_macs``, ``min_flops``, ...

        Raises:
            BudgetError: It cannot be read, or limits nothing.
            ConventionError: There is no such convention.

        Example:
            >>> [str(limit) for limit in Budget.of("4.2 GMAC", exact_params=25_557_032).limits]
            ['4.200 GMAC', 'exactly 25.557 Mparam']
        """
        writing = read_writing(who, metric, rtol)
        found = read_limits(limits, bounds, writing)
        found += [] if modules is None else read_module_limits(modules, writing)
        if not found:
            raise BudgetError(f"{who}: expected at least one limit, got none. Write one, such as '4.2 GMAC'.")
        return cls(
            tuple(found),
            _phase(phase, who),
            None if convention is None else find_convention(convention),
            _allowed(allow_uncounted, who),
        )

    def check(self, profile: Profile) -> list[Failure]:
        """Return all ways in which a profile is not within the budget; none if it is.

        Raises:
            BudgetError: A pattern matches no module of the profile, or the profile is of some steps of a loop.
        """
        need_all_steps(profile, "Budget.check")
        profile = profile if self.convention is None else profile.with_convention(self.convention)
        selected = self.select(profile)
        if not selected.records and any(limit.metric != "params" for limit in self.limits):
            return [Failure(self._nothing(profile))]
        failures = list(self._no_backward(profile))
        for limit in self.limits:
            failures += self._check_modules(limit, selected) if limit.modules is not None else _check(limit, selected)
        return failures + list(self._uncounted(selected))

    def select(self, profile: Profile) -> Profile:
        """Return the part of a profile that the budget is about."""
        if self.phase in (None, TRAINING):
            return profile
        return profile.select(lambda record: record.phase == self.phase)

    def permits(self, operator: str) -> bool:
        """Tell whether an operator may run that has no formula."""
        if isinstance(self.allow_uncounted, bool):
            return self.allow_uncounted
        return any(fnmatchcase(operator, pattern) for pattern in self.allow_uncounted)

    def _nothing(self, profile: Profile) -> str:
        if not profile.records:
            return "0 operators seen: was the model run inside the test?"
        phases = ", ".join(dict.fromkeys(printable(record.phase) for record in profile.records))
        return f"0 operators seen in the phase {self.phase!r}, only in {phases}: does the test run it?"

    def _no_backward(self, profile: Profile) -> Iterator[Failure]:
        if self.phase == TRAINING and not any(record.phase == "backward" for record in profile.records):
            yield Failure("0 operators seen in the phase 'backward': does the test call backward()?")

    def _check_modules(self, limit: Limit, profile: Profile) -> Iterator[Failure]:
        paths = find_modules(profile, limit.modules or "")
        totals = profile.by_module()
        if limit.metric != "params" and not any(totals[path].calls for path in paths):
            shown = f"{limit.modules!r} matches {plural(len(paths), 'module')}"
            yield Failure(f"{shown}, 0 operators seen in any: did they run inside the test?")
        for path in paths:
            count = count_of(totals[path], params_of(profile, path), limit.metric)
            if not limit.allows(count):
                yield Failure(f"{label(path)} {limit.explain(count, profile.convention.name)}", limit.metric, path)

    def _uncounted(self, profile: Profile) -> Iterator[Failure]:
        """Fail an upper bound over what nobody can price; the parameters are known all the same."""
        upper = [limit for limit in self.limits if limit.highest is not None and limit.metric != "params"]
        for path in dict.fromkeys(path for limit in upper for path in _places(limit, profile)):
            part = profile if path is None else below(profile, path)
            names = [name for name in part.coverage.uncounted if not self.permits(name)]
            if names:
                shares = part.coverage.uncounted
                calls = ", ".join(f"{printable(n)} ({plural(shares[n].calls, 'call')})" for n in sorted(names))
                yield Failure(
                    f"{plural(len(names), 'operator')} without a formula, so the count is a lower bound and no upper "
                    f"limit can hold: {calls}. Register a formula with @opcount.formula, or pass allow_uncounted=True",
                    path=path,
                )
                return


def _check(limit: Limit, profile: Profile) -> Iterator[Failure]:
    count = count_of(profile.total, params_of(profile), limit.metric)
    if limit.metric == "params" and not profile.modules:
        yield Failure("parameters are limited, and the count saw no model: pass model=", "params")
    elif not limit.allows(count):
        yield Failure(limit.explain(count, profile.convention.name), limit.metric)


def _places(limit: Limit, profile: Profile) -> list[str] | list[None]:
    return [None] if limit.modules is None else find_modules(profile, limit.modules)


def _phase(phase: object, who: str) -> str | None:
    if phase is None or (isinstance(phase, str) and phase):
        return phase
    raise BudgetError(
        f"{who}: expected a phase such as 'forward' or 'training', got {phase!r} of type {type(phase).__name__}. "
        f"Pass its name, or leave it out to count everything."
    )


def _allowed(allow: object, who: str) -> bool | tuple[str, ...]:
    if isinstance(allow, bool):
        return allow
    if isinstance(allow, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in allow):
        return tuple(sorted(allow))
    raise BudgetError(
        f"{who}: expected allow_uncounted to be True, False or patterns of operators, got {allow!r} "
        f"of type {type(allow).__name__}. Pass a list such as ['mylib.*']."
    )
