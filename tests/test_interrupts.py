"""An interrupt at any line of opcount leaves nothing behind, and the next count is right."""

from __future__ import annotations

import gc
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from opcount import OpCounter, flop_budget, get_model_complexity_info
from opcount.compat.fvcore import FlopCountAnalysis
from opcount.compat.torch import FlopCounterMode
from opcount.errors import CounterStateError, UncountedOperatorWarning
from opcount.interceptor import Interceptor, observe
from opcount.pytest_plugin import call_phase
from opcount.scope import Scopes
from opcount.undo import Undo
from tests.interrupts import Interruption, left

MODEL = nn.Sequential(nn.Linear(3, 4, bias=False))
FROZEN = nn.Sequential(nn.Linear(3, 4, bias=False)).requires_grad_(requires_grad=False)
X = torch.ones(2, 3)
MACS = 2 * 3 * 4


def counted():
    with OpCounter():
        MODEL(X)


def of_a_model():
    with OpCounter(MODEL, strict=True) as c:
        MODEL(X)
    str(c)


def trained():
    with OpCounter(MODEL):
        MODEL(X).sum().backward()


def opened():
    with torch.inference_mode(), OpCounter(FROZEN):
        FROZEN(X)


def in_steps():
    c = OpCounter(FROZEN, every=2)
    for _ in range(3):
        with c:
            FROZEN(X)


def nested():
    with OpCounter(FROZEN), OpCounter():
        FROZEN(X)


def in_phases():
    with OpCounter() as c, c.phase("prefill"):
        c.pause()
        c.resume()


def dry():
    with OpCounter(FROZEN, dry_run=True):
        pass  # inside, PyTorch asks for devices by Python, where it ends the process if that raises


def held_to_a_budget():
    with flop_budget("1 GMAC", model=FROZEN):
        FROZEN(X)


@flop_budget("1 GMAC")
def decorated():
    FROZEN(X)


def as_torch_counts():
    with FlopCounterMode(display=False):
        FROZEN(X)


def as_fvcore_counts():
    FlopCountAnalysis(FROZEN, X).unsupported_ops_warnings(enabled=False).total()


def as_mmengine_counts():
    get_model_complexity_info(FROZEN, (3,), show_table=False, show_arch=False)


def in_a_test():
    stash = pytest.Stash()
    item = SimpleNamespace(stash=stash, iter_markers=lambda *_: ())
    stash[call_phase.COUNTER] = OpCounter(FROZEN)
    with call_phase.counted(item, SimpleNamespace()):
        FROZEN(X)


SHORT = (counted, of_a_model, trained, opened, in_phases, in_a_test)
LONG = (dry, in_steps, nested, held_to_a_budget, decorated, as_torch_counts, as_fvcore_counts, as_mmengine_counts)


def check_all(program, event="line", stride=1):
    """Interrupt a program at one place after the other; return how often the interrupt came out of it."""
    program()
    program()  # what is decided once has been decided
    whole = Interruption(0, event)
    whole.run(program)
    before, came_out = left(), 0
    for place in range(1, whole.seen + 1, stride):
        interruption = Interruption(place, event)
        came_out += interruption.run(program)
        after = left()
        assert {name: (before[name], after.get(name)) for name in before if before[name] != after.get(name)} == {}, (
            interruption.where
        )
        with OpCounter(MODEL) as c:
            MODEL(X)
        assert (c.macs, c.by_module()["0"].macs) == (MACS, MACS), interruption.where
    gc.collect()
    assert not any(issubclass(type(o), Interceptor) and o.scope.observing for o in gc.get_objects())
    return came_out, len(range(1, whole.seen + 1, stride))


@pytest.mark.parametrize("program", SHORT, ids=lambda program: program.__name__)
def test_an_interrupt_at_any_line_leaves_nothing_behind(program):
    came_out, places = check_all(program)
    assert came_out > 0.93 * places  # the others were in destructors, which Python lets no exception leave


@pytest.mark.parametrize("program", LONG, ids=lambda program: program.__name__)
def test_an_interrupt_of_a_longer_program_leaves_nothing_behind(program):
    check_all(program, stride=7)


@pytest.mark.parametrize("program", [trained, opened, in_steps, nested, held_to_a_budget])
def test_an_interrupt_between_two_instructions_leaves_nothing_behind(program):
    check_all(program, "opcode", stride=101)


def test_a_program_that_goes_on_in_the_block_is_counted_right():
    lines = Interruption(0)
    with OpCounter(MODEL):
        lines.run(lambda: MODEL(X).sum().backward())
    for place in range(1, lines.seen + 1):
        interruption = Interruption(place)
        with OpCounter(MODEL) as c:
            interruption.run(lambda: MODEL(X).sum().backward())
            c.reset()
            MODEL(X).sum().backward()
        assert c.by_phase()["forward"].macs == c.by_phase()["backward"].macs == MACS, interruption.where
        assert c.by_module()["0"].macs == 2 * MACS, interruption.where


class Failing(Exception):  # noqa: N818
    """Errors of an alarm, or of the lack of memory."""


def test_any_exception_is_an_interrupt():
    before = left()
    for place in range(1, 700, 3):
        interruption = Interruption(place, error=Failing)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncountedOperatorWarning)  # a formula that raises makes its operator one
            interruption.run(counted)
        assert left() == before, interruption.where


def test_a_counter_that_could_not_be_entered_can_be_entered_again(monkeypatch):
    c, before = OpCounter(MODEL), left()
    with monkeypatch.context() as patch:
        patch.setattr(Interceptor, "push_here", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError), c:
            pass
    assert left() == before
    with c:
        MODEL(X)
    assert c.macs == MACS


def test_after_an_interrupt_on_leaving_the_same_counter_counts_on():
    c = OpCounter(MODEL)

    def program():
        with c:
            MODEL(X)

    program()
    lines = Interruption(0)
    lines.run(program)
    for place in range(1, lines.seen + 1):
        Interruption(place).run(program)
        c.reset()
        program()
        assert c.by_module()["0"].macs == MACS


class _Dropped:
    """A context manager whose ``__exit__`` a statement never calls: it ends before."""

    def __init__(self, counter):
        self.counter = counter

    def __enter__(self):
        leave = self.counter.__exit__
        self.counter.__enter__()
        del leave


def test_what_a_with_statement_drops_uncalled_ends_the_block():
    before, c = left(), OpCounter(MODEL)
    _Dropped(c).__enter__()
    assert left() == before
    with pytest.raises(CounterStateError, match="is not counting"):
        c.pause()


def test_looking_at_a_running_counter_does_not_end_it():
    with OpCounter(MODEL) as c:
        assert callable(c.__exit__)
        assert all(hasattr(c, name) for name in dir(type(c)) if name.startswith("__"))
        MODEL(X)
    assert c.macs == MACS


def test_undo_runs_every_step_though_one_fails_and_raises_what_it_raised():
    done = []

    def fail():
        done.append("fail")
        raise Failing

    undo = Undo()
    undo.add(lambda: done.append("first"))
    undo.add(fail)
    undo.add(lambda: done.append("last"))
    with pytest.raises(Failing):
        undo.run()
    assert done == ["last", "fail", "fail", "first"]
    assert not undo


def test_a_step_is_undone_that_never_came_to_be_done():
    before, undo = left(), Undo()
    scopes = Scopes(MODEL, lambda *_: None, (), lambda *_: None, lambda *_: None)
    with pytest.raises(Failing):
        observe(scopes, lambda _: (_ for _ in ()).throw(Failing()), undo)
    undo.run()
    assert left() == before
