"""Code that was left by an exception is off the stack, and an ended count leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.errors import CounterStateError
from tests.conftest import traces
from tests.scope.ledger import ledger, stacks


class Interrupted(nn.Module):
    def __init__(self, error=KeyboardInterrupt):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def rows(macs):
    return macs * 5


PRODUCT = rows(2 * 3)


def product():
    return torch.ones(5, 2) @ torch.ones(2, 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, ValueError])
def test_after_an_exception_operators_belong_to_the_root_again(error):
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(Interrupted(error)))
    with OpCounter(nn.ModuleDict({"model": model, "other": nn.Linear(2, 7, bias=False)})) as c:
        with contextlib.suppress(error):
            model(torch.ones(5, 2))
        product()
        c._scopes.names.model["other"](torch.ones(5, 2))
    assert stacks(c, "forward") == {("", "model", "model.0"): PRODUCT, ("",): PRODUCT, ("", "other"): rows(2 * 7)}


def test_two_counters_watch_the_same_code():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), Interrupted())
    outside = nn.ModuleDict({"model": model})
    with OpCounter(outside) as c, OpCounter(outside) as d:
        model[0](torch.ones(5, 2))
        with contextlib.suppress(KeyboardInterrupt):
            model(torch.ones(5, 2))
        product()
    expected = {("", "model.0"): PRODUCT, ("", "model", "model.0"): PRODUCT, ("",): PRODUCT}
    assert stacks(c, "forward") == stacks(d, "forward") == expected


def test_a_retry_inside_the_handler_is_not_below_what_failed():
    fails = [True]

    class Once(nn.Module):
        def forward(self, x):
            if fails.pop() if fails else False:
                raise KeyboardInterrupt
            return x

    model = nn.Sequential(nn.Linear(2, 3, bias=False), Once())
    with OpCounter(model) as c:
        try:
            model(torch.ones(5, 2))
        except KeyboardInterrupt:
            model(torch.ones(5, 2))
    assert stacks(c, "forward") == {("", "0"): 2 * PRODUCT}


def test_recursion_is_no_failure():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3, bias=False)

        def forward(self, x, depth):
            return self.layer(x) if not depth else self(self.layer(x), depth - 1)

    with OpCounter(model := Recursive()) as c:
        model(torch.ones(5, 3), 3)
    assert ledger(c) == {("layer", "forward"): 4 * 5 * 3 * 3}
    assert c.profile.modules[""].calls == 4


def test_after_an_optimizer_step_that_raises_forward_is_forward():
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError

    layer = nn.Linear(2, 3, bias=False)
    optimizer = Failing(layer.parameters(), lr=0.1)
    with OpCounter(layer) as c:
        with contextlib.suppress(RuntimeError):
            optimizer.step()
        product()
        layer(torch.ones(5, 2))
    assert {r.phase for r in c.profile.records} == {"forward"}


def test_a_closure_of_an_optimizer_runs_forward_and_backward():
    layer = nn.Linear(2, 3, bias=False)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=1)

    def closure():
        optimizer.zero_grad()
        loss = layer(torch.ones(5, 2)).pow(2).sum()
        loss.backward()
        return loss

    with OpCounter(nn.Sequential(layer)) as c:
        optimizer.step(closure)
    by_layer = {key: macs for key, macs in ledger(c).items() if key[0] == "0"}
    assert by_layer == {("0", "forward"): PRODUCT, ("0", "backward"): PRODUCT}
    assert c.by_phase()["optimizer"].calls


def test_the_model_can_be_copied_and_pickled_inside():
    model = nn.Sequential(nn.Linear(2, 3))
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    with OpCounter(model):
        model(torch.ones(5, 2))
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  (our own)
            assert torch.equal(twin[0].weight, model[0].weight)
        assert {name: set(vars(module)) for name, module in model.named_modules()} == keys
        assert list(model.state_dict()) == ["0.weight", "0.bias"]


def test_the_engine_of_autograd_is_pytorchs_again():
    engine = torch.autograd.Variable._execution_engine
    outer, inner = OpCounter(), OpCounter()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)  # not the order of nested blocks
    assert torch.autograd.Variable._execution_engine is not engine
    inner.__exit__(None, None, None)
    assert torch.autograd.Variable._execution_engine is engine


def test_overlapping_blocks_restore_what_was_before_the_first():
    before = traces()
    outer, inner = OpCounter(), OpCounter()
    outer.__enter__()
    inner.__enter__()
    product()
    outer.__exit__(None, None, None)
    product()
    inner.__exit__(None, None, None)
    assert traces() == before
    assert (outer.macs, inner.macs) == (PRODUCT, 2 * PRODUCT)


def test_a_counter_that_is_dropped_stops_to_count():
    before = traces()
    c = OpCounter(nn.Linear(2, 3))
    c.__enter__()
    c._scopes.names.model(torch.ones(5, 2))
    with pytest.warns(ResourceWarning, match="dropped while it was counting"):
        del c
    assert traces() == before


def test_a_generator_that_is_closed_ends_its_count():
    counters = []

    def steps():
        with OpCounter() as c:
            counters.append(c)
            while True:
                yield product()

    before = traces()
    running = steps()
    next(running)
    next(running)
    running.close()
    assert traces() == before
    assert counters[0].macs == 2 * PRODUCT


def test_leaving_on_another_thread_is_refused_and_can_still_be_done_on_the_right_one():
    before = traces()
    errors = []

    def leave():
        try:
            c.__exit__(None, None, None)
        except CounterStateError as error:
            errors.append(str(error))

    c = OpCounter()
    c.__enter__()
    thread = threading.Thread(target=leave, name="other")
    thread.start()
    thread.join()
    product()
    c.__exit__(None, None, None)
    assert traces() == before
    assert c.macs == PRODUCT
    assert "left on 'other', and so still counting" in errors[0]


def test_a_pause_holds_for_every_thread_of_the_count():
    model = nn.Linear(2, 3, bias=False)
    with OpCounter(model) as c:
        c.pause()
        thread = threading.Thread(target=model, args=(torch.ones(5, 2),))
        thread.start()
        thread.join()
        c.resume()
        model(torch.ones(5, 2))
    assert c.macs == PRODUCT
