"""Properties of every program, each as a function that returns complaints."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import cached_property, partial
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointError

from opcount import Cost, OpCounter, Profile
from opcount.errors import DryRunError
from tests.generator.around import anatomy, changes, shape, traces_of
from tests.generator.book import Book
from tests.generator.outcome import Outcome, alike, different, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.generator.program import Program

_RUNS = 30
"""Runs after which a program is taken for one that computes the same each time."""

CHECKS: dict[str, Callable[[Case], list[str]]] = {}


class Case:
    """A program, and its runs as they are asked for."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plain = outcome(program)
        self.counted = outcome(program, OpCounter)

    @property
    def runs_all(self) -> bool:
        """True if each part surely runs and is counted."""
        return (
            any(each.lines for each in self.program.actions)
            and not self.plain.error
            and "pause" not in self.program.names
        )

    @property
    def traits(self) -> set[str]:
        return self.program.traits

    @cached_property
    def is_steady(self) -> bool:
        """True if runs without a counter agree, wherever their memory lies: some kernels round otherwise there."""
        held = []
        for size in range(1, 2 * _RUNS, 2) if "script" not in self.traits else ():  # that runs otherwise later
            held.append(torch.empty(97 * size))
            if different(self.plain, outcome(self.program)):
                return False
        return True

    def different(self, a: Outcome, b: Outcome) -> list[str]:
        """Return what two runs computed differently, and PyTorch alone computes alike each time."""
        names = different(a, b)
        return names if not names or self.is_steady else [name for name in names if name.startswith("error")]


def check(function):
    """Register a comparison."""
    CHECKS[function.__name__] = function
    return function


class Empty(TorchDispatchMode):
    """Context manager without an effect."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@check
def same_results(case: Case) -> list[str]:
    """Counting changes nothing; where a mode that does nothing does, counting changes the same."""
    names = case.different(case.plain, case.counted)
    if names and not different(case.counted, outcome(case.program, lambda _: Empty())):
        return []
    return names


@check
def independent_macs(case: Case) -> list[str]:
    """MACs by module and phase are those of the book."""
    if "unbooked" in case.traits or ("higher" in case.traits and case.plain.error):
        return []
    booked = outcome(case.program, Book)
    if not alike(booked.error, case.plain.error):
        return [f"the book raises {booked.error!r}"]
    raised = {"backward"} if case.plain.error else set()  # the book has no node that ends by an error in its midst
    unsure, anywhere = booked.context.unsure | raised, case.counted.context.coverage.unattributed
    book, said = Counter(), Counter()
    known = {path for path, _ in case.counted.model.named_modules()}  # the program may have dropped others
    for side, sums in ((booked.context.macs, book), (ledger(case.counted), said)):
        for (path, phase), macs in side.items():
            if phase not in unsure:
                sums["" if anywhere else _nearest(path, known), phase] += macs
    return _unequal("the book", book, "opcount", said)


@check
def nested_counters(case: Case) -> list[str]:
    """Two counters, one inside the other, agree with one alone."""
    pair: list[OpCounter] = []

    @contextmanager
    def both(model: torch.nn.Module) -> Iterator[_Both]:
        with OpCounter(model) as outer, OpCounter(model) as inner:
            pair.extend([outer, inner])
            yield _Both([outer, inner])

    nested = outcome(case.program, both)
    if not alike(nested.error, case.plain.error):
        return [f"raises {nested.error!r}"]
    alone, outer, inner = said(case.counted.context, *pair)
    return _unequal("alone", alone, "outer", outer) + _unequal("alone", alone, "inner", inner)


@check
def entered_again(case: Case) -> list[str]:
    """A counter that is entered twice says what one says that goes on; so does one that a copy of it continues."""
    _, own = case.program.functions()
    last: list[OpCounter] = []

    def on(model, counter, seen):
        for _ in range(2):
            own(model, counter, seen)

    def again(model, _, seen, *, copies):
        counter = OpCounter(model)
        for _ in range(2):
            with counter:
                own(model, counter, seen)
            counter = copy(counter) if copies else counter
        last.append(counter)

    whole, complaints = outcome(case.program, OpCounter, on), []
    for copies in (False, True):
        parts = outcome(case.program, run=partial(again, copies=copies))
        name = "continued by a copy" if copies else "entered again"
        complaints += [f"{name}: {what}" for what in case.different(whole, parts)]
        if not parts.error:
            pair = whole.context, last[-1]  # a copy does not know that a name was of a module that is gone
            one, other = (costs(c.profile) for c in pair) if copies else said(*pair)
            complaints += _unequal("one block", one, name, other)
    return complaints


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
    before: dict[str, object] = {}

    def context(model):
        before.update(anatomy(model))
        return OpCounter(model, dry_run=True)

    untouched = outcome(case.program, run=lambda *_: None)
    dry = outcome(case.program, context)
    complaints = [f"dry run changed {name}" for name in different(Outcome(untouched.values), Outcome(_of_model(dry)))]
    complaints += [f"dry run: {line}" for line in changes(before, anatomy(dry.model))]
    again = outcome(case.program, model=dry.model)
    later = different(case.plain, outcome(case.program)) if "script" in case.traits else []
    known = {name.partition(":")[0] for name in later}  # TorchScript runs scripts otherwise the second time
    found = [name for name in case.different(case.plain, again) if name.partition(":")[0] not in known]
    complaints += [f"after a dry run, otherwise: {name}" for name in found]
    if isinstance(dry.error, DryRunError):
        expected = "data" in case.traits or case.plain.error
        return complaints if expected else [*complaints, f"refused: {dry.error}"]
    if "no kernel" in case.traits and case.plain.error:
        return complaints
    if "script" in case.traits and _comes_of_a_checkpoint(case.plain.error):
        return complaints  # a script keeps other tensors in its second run, which is the checkpoint's
    if not isinstance(case.plain.error, type(dry.error)):
        return [*complaints, f"dry run raises {dry.error!r}, a real one {case.plain.error!r}"]
    counted, dried = said(case.counted.context, dry.context)
    if "copied" in case.program.names:  # a dry run keeps what plain containers of a copy hold, and so their names
        counted, dried = map(unnumbered, (counted, dried))
    if "script" in case.traits:
        anywhere = any(c.coverage.unattributed for c in (case.counted.context, dry.context))
        counted, dried = ledger(case.counted, anywhere=anywhere), ledger(dry, anywhere=anywhere)
        unasked = [key for key in counted if key[1] == "backward" and counted[key] > dried[key]]
        counted.update({key: dried[key] - counted[key] for key in unasked})  # of scripts' later runs
    elif case.traits >= {"encoder", "autocast"}:
        in_doubt = case.counted.context.coverage.unattributed or dry.context.coverage.unattributed
        counted, dried = (
            {k: v for k, v in by_module(each).items() if not (k and in_doubt)} for each in (case.counted, dry)
        )
    return complaints + _unequal("real", counted, "dry", dried)


def _comes_of_a_checkpoint(error: BaseException | None) -> bool:
    """Return whether a checkpoint found other tensors than in forward, or may have: a script leaves out the message."""
    return isinstance(error, CheckpointError) or str(error).endswith("(most recent call last):\nRuntimeError: \n")


def _of_model(result: Outcome) -> dict[str, object]:
    return {name: value for name, value in result.values.items() if not name.startswith("seen")}


@check
def grad_modes(case: Case) -> list[str]:
    """A forward says the same with and without gradients and in inference mode, in training and in evaluation."""
    if case.traits & {"grad", "no inference"}:
        return []
    return _grad_modes(case, training=True) + _grad_modes(case, training=False)


def _grad_modes(case: Case, *, training: bool) -> list[str]:
    found, plain, complaints = {}, {}, []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):

        def run(model, _c, seen, mode=mode):
            with mode():
                seen.append(model.train(training)(torch.randn(case.program.size)))

        plain[mode] = outcome(case.program, run=run)
        found[mode] = outcome(case.program, OpCounter, run)
        names = case.different(plain[mode], found[mode])
        if "version_counter" in str(plain[mode].error):  # of sparse inference tensors; not raised under any mode
            continue
        if names and different(found[mode], outcome(case.program, lambda _: Empty(), run)):
            complaints += [f"{mode.__name__} changes {name}, training={training}" for name in names]
    for mode in (torch.no_grad, torch.inference_mode):
        if plain[torch.enable_grad].error or plain[mode].error:
            continue
        if case.traits & {"data", "no kernel"} and bits(plain[torch.enable_grad]) != bits(plain[mode]):
            continue  # values decide, or an error of one mode that the program catches
        pair = by_module(found[torch.enable_grad]), by_module(found[mode])
        if "script" in case.traits:
            pair = tuple({path: macs for path, (macs, _) in each.items()} for each in pair)
        complaints += _unequal("grad", pair[0], f"{mode.__name__}, training={training}", pair[1])
    return complaints


def bits(result: Outcome) -> list[object]:
    """Return the bits that a run computed."""
    return [value[-2] for name, value in result.values.items() if name.startswith("seen")]


def by_module(result: Outcome) -> dict[str, tuple[int, int]]:
    """Return MACs and arithmetic of every module."""
    return {path: (total.macs, total.arith) for path, total in result.context.by_module().items()}


@check
def covered(case: Case) -> list[str]:
    """Everything is explained but what is opaque; records add up; a profile survives being written down."""
    c, complaints = case.counted.context, []
    ran = any(module.calls for module in c.profile.modules.values())
    is_replaced = "replaced" in case.program.names and not c.coverage.uncounted  # what is opaque may be what never ran
    if bool(c.coverage.uncounted) != ("opaque" in case.traits and ran) and case.runs_all and not is_replaced:
        complaints.append(f"uncounted: {list(c.coverage.uncounted)}, opaque parts: {'opaque' in case.traits}")
    in_doubt = "threads" in case.traits or case.traits >= {"reentrant", "elsewhere"}
    if c.coverage.unattributed and not in_doubt:
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
    found = traces_of(lambda: outcome(case.program, OpCounter))
    return found + changes(shape(case.plain.model), shape(case.counted.model))


@check
def left_behind_by_a_dry_run(case: Case) -> list[str]:
    """A dry run leaves the process as it was."""
    return traces_of(lambda: outcome(case.program, lambda model: OpCounter(model, dry_run=True)))


def ledger(result: Outcome, *, anywhere: bool = False) -> Counter[tuple[str, str]]:
    """Return MACs by phase, and by the innermost module that the model knows, or the nearest above, or by phase."""
    known = {""} if anywhere else {path for path, _ in result.model.named_modules()}
    sums: Counter[tuple[str, str]] = Counter()
    for record in result.context.profile.records:
        path = next(filter(None, (_nearest(path, known) for path in reversed(record.stack))), "")
        sums[path, record.phase] += record.cost.macs
    return +sums


def _nearest(path: str, known: set[str]) -> str:
    """Return the innermost of a module and its parents that is known."""
    while path not in known:
        path = path.rpartition(".")[0]
    return path


def said(*counters: OpCounter) -> list[dict[Any, Any]]:
    """Return what is to be the same: by module only where each of them could tell the modules of all."""
    told = costs if any(c.coverage.unattributed for c in counters) else rows
    return [told(c.profile) for c in counters]


def rows(profile: Profile) -> dict[object, object]:
    """Return what is said of everything that costs something."""
    return {r.key: (r.calls, r.cost, r.bytes_written, r.bytes_read) for r in profile.records if r.family != "free"}


def unnumbered(rows: dict[Any, Any]) -> dict[Any, Any]:
    """Return rows with those of modules of one class, which have numbers in their names, in one."""
    sums: dict[Any, Any] = {}
    for (stack, *rest), row in rows.items():
        key = tuple(re.sub(r"_\d+(?=\.|$)", "", path) for path in stack) if isinstance(stack, tuple) else stack, *rest
        sums[key] = tuple(map(add, sums[key], row)) if key in sums else row
    return sums


def costs(profile: Profile) -> dict[object, Cost]:
    """Return what operators cost that are not free, in all modules together."""
    sums: dict[object, Cost] = {}
    for r in (r for r in profile.records if r.family != "free"):
        sums[r.operator, r.phase] = sums.get((r.operator, r.phase), Cost(0, 0, 0)) + r.cost
    return sums


def _unequal(one: str, a: dict, other: str, b: dict) -> list[str]:
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [f"{key}: {one} {a.get(key)}, {other} {b.get(key)}" for key in keys]


def complaints(program: Program, only: Collection[str] = tuple(CHECKS)) -> dict[str, list[str]]:
    """Return all complaints about a program, by the check that makes them."""
    case, found = Case(program), {}
    for name, function in CHECKS.items():
        if name in only and (made := function(case)):
            found[name] = made
    return found
