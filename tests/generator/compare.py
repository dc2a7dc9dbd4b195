"""What has to hold of every program, each as a function that returns complaints."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter, Profile
from opcount.errors import DryRunError
from tests.generator.around import anatomy, changes, shape, traces_of
from tests.generator.book import Book
from tests.generator.outcome import Outcome, different, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.generator.program import Program

CHECKS: dict[str, Callable[[Case], list[str]]] = {}


class Case:
    """A program, and its runs as they are asked for."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plain = outcome(program)
        self.counted = outcome(program, OpCounter)

    @property
    def traits(self) -> set[str]:
        return self.program.traits


def check(function):
    """Register a comparison."""
    CHECKS[function.__name__] = function
    return function


class Empty(TorchDispatchMode):
    """Does nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@check
def runs(case: Case) -> list[str]:
    """The generator makes programs that run."""
    return [f"raises {case.plain.error!r}"] if case.plain.error else []


@check
def same_results(case: Case) -> list[str]:
    """Counting changes nothing; where a mode that does nothing does, counting changes the same."""
    names = different(case.plain, case.counted)
    if names and not different(case.counted, outcome(case.program, lambda _: Empty())):
        return []
    return names


@check
def independent_macs(case: Case) -> list[str]:
    """MACs by module and phase are those of the book."""
    if case.counted.error:
        return []
    booked = outcome(case.program, Book)
    if booked.error:
        return [f"the book raises {booked.error!r}"]
    return _unequal("the book", booked.context.macs, "opcount", ledger(case.counted))


@check
def nested_counters(case: Case) -> list[str]:
    """Two counters, one inside the other, agree with one alone."""
    if case.counted.error:
        return []
    pair: list[OpCounter] = []

    @contextmanager
    def both(model: torch.nn.Module) -> Iterator[_Both]:
        with OpCounter(model) as outer, OpCounter(model) as inner:
            pair.extend([outer, inner])
            yield _Both([outer, inner])

    nested = outcome(case.program, both)
    if nested.error:
        return [f"raises {nested.error!r}"]
    alone, outer, inner = (rows(c.profile) for c in (case.counted.context, *pair))
    return _unequal("alone", alone, "outer", outer) + _unequal("alone", alone, "inner", inner)


class _Both:
    """Two counters as one."""

    def __init__(self, counters: list[OpCounter]) -> None:
        self.counters = counters

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        with ExitStack() as stack:
            for counter in self.counters:
                stack.enter_context(counter.phase(name))
            yield

    def pause(self) -> None:
        for counter in self.counters:
            counter.pause()

    def resume(self) -> None:
        for counter in self.counters:
            counter.resume()


@check
def dry_run(case: Case) -> list[str]:
    """A dry run says what a real run says, or refuses; either way the model is as if nothing had been."""
    if case.counted.error:
        return []
    before: dict[str, object] = {}

    def context(model):
        before.update(anatomy(model))
        return OpCounter(model, dry_run=True)

    untouched = outcome(case.program, run=lambda *_: None)
    dry = outcome(case.program, context)
    complaints = [f"dry run changed {name}" for name in different(Outcome(untouched.values), Outcome(_of_model(dry)))]
    complaints += [f"dry run: {line}" for line in changes(before, anatomy(dry.model))]
    again = outcome(case.program, model=dry.model)
    complaints += [f"after a dry run, otherwise: {name}" for name in different(case.plain, again)]
    if isinstance(dry.error, DryRunError):
        return complaints if "data" in case.traits else [*complaints, f"refused: {dry.error}"]
    if dry.error:
        return [*complaints, f"dry run raises {dry.error!r}"]
    return complaints + _unequal("real", rows(case.counted.context.profile), "dry", rows(dry.context.profile))


def _of_model(result: Outcome) -> dict[str, object]:
    return {name: value for name, value in result.values.items() if not name.startswith("seen")}


@check
def grad_modes(case: Case) -> list[str]:
    """A forward says the same with and without gradients and in inference mode."""
    if case.traits & {"grad", "no inference"}:
        return []
    found = {}
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):

        def run(model, _c, seen, mode=mode):
            with mode():
                seen.append(model(torch.randn(case.program.size)))

        result = outcome(case.program, OpCounter, run)
        if result.error:
            return [f"{mode.__name__} raises {result.error!r}"]
        found[mode.__name__] = {path: (t.macs, t.arith) for path, t in result.context.by_module().items()}
    return [
        complaint
        for name in ("no_grad", "inference_mode")
        for complaint in _unequal("grad", found["enable_grad"], name, found[name])
    ]


@check
def covered(case: Case) -> list[str]:
    """Everything is explained but what is opaque; records add up; a profile survives being written down."""
    if case.counted.error:
        return []
    c, complaints = case.counted.context, []
    if bool(c.coverage.uncounted) != ("opaque" in case.traits):
        complaints.append(f"uncounted: {list(c.coverage.uncounted)}, opaque parts: {'opaque' in case.traits}")
    if c.coverage.unattributed:
        complaints.append(f"unattributed: {c.coverage.unattributed}")
    profile = c.profile
    for name, groups in {"operator": c.by_operator(), "phase": c.by_phase(), "dtype": c.by_dtype()}.items():
        if sum(total.macs for total in groups.values()) != c.macs:
            complaints.append(f"by {name}: {groups} do not add up to {c.macs}")
    if c.by_module() and c.by_module()[""].macs != c.macs:
        complaints.append(f"the root has {c.by_module()['']}, the counter {c.macs}")
    if Profile.from_json(profile.to_json()) != profile:
        complaints.append("the profile is another one after to_json and from_json")
    return complaints


@check
def left_behind(case: Case) -> list[str]:
    """A count leaves the process as it was, and the model with what the program itself puts there."""
    return [
        *(f"counting: {line}" for line in traces_of(lambda: outcome(case.program, OpCounter))),
        *(
            f"dry run: {line}"
            for line in traces_of(lambda: outcome(case.program, lambda m: OpCounter(m, dry_run=True)))
        ),
        *(f"model: {line}" for line in changes(shape(case.plain.model), shape(case.counted.model))),
    ]


def ledger(result: Outcome) -> Counter[tuple[str, str]]:
    """Return MACs by the innermost module that the model knows, and phase."""
    known = {path for path, _ in result.model.named_modules()}
    sums: Counter[tuple[str, str]] = Counter()
    for record in result.context.profile.records:
        path = next(path for path in reversed(record.stack) if path in known)
        sums[path, record.phase] += record.cost.macs
    return +sums


def rows(profile: Profile) -> dict[object, object]:
    """Return what is said of everything that costs something."""
    return {r.key: (r.calls, r.cost, r.bytes) for r in profile.records if r.family != "free"}


def _unequal(one: str, a: dict, other: str, b: dict) -> list[str]:
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [f"{key}: {one} {a.get(key)}, {other} {b.get(key)}" for key in keys]


def complaints(program: Program, only: str | None = None) -> dict[str, list[str]]:
    """Return all complaints about a program, by the check that makes them."""
    case = Case(program)
    if case.plain.error is not None:
        return {"runs": runs(case)}
    found = {}
    for name, function in CHECKS.items():
        if only in (None, name) and (made := function(case)):
            found[name] = made
    return found
