"""Between the steps that are counted nothing is left: no mode, no hook, PyTorch's own engine, compiled functions."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import threading
import tracemalloc
import warnings

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.errors import CounterStateError
from tests.conftest import traces
from tests.every.loops import IN, OUT, ROWS, batches, net, step_macs, train


def state():
    """Return all that a counter touches while it counts."""
    return {
        **traces(),
        "engine": torch.autograd.Variable._execution_engine,
        "warnings": list(warnings.filters),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
    }


def hooks_of(model):
    return [
        (name, attribute, len(value))
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if "hook" in attribute and hasattr(value, "__len__")
    ]


class Looking(nn.Module):
    """Notes the state of PyTorch in forward and in backward."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(IN, OUT, bias=False)
        self.seen = []

    def forward(self, x):
        out = self.layer(x)
        self.seen.append(state())
        out.register_hook(lambda _grad: self.seen.append(state()))
        return out


def test_inside_a_step_that_is_not_counted_pytorch_is_as_without_a_counter():
    model = Looking()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: model.seen.append(state()))
    before, attributes = state(), hooks_of(model)
    model(*batches(1)).sum().backward()
    optimizer.step()
    without = list(model.seen)
    c = OpCounter(model, every=10)
    bare = 0
    for batch in batches(100):
        model.seen.clear()
        macs = c.macs if c._ran else 0
        with c:
            model(batch).sum().backward()
            optimizer.step()
            assert hooks_of(model) == attributes
        if c.macs == macs:
            bare += 1
            assert model.seen == without
        else:
            assert all(map(operator.ne, model.seen, without))
        assert state() == before
    assert bare == 100 - c.profile.steps.measured >= 89


@pytest.mark.parametrize("steps", [0, 1], ids=["counted", "not counted"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing_behind_and_the_loop_may_go_on(error, steps):
    class Failing(nn.Module):
        def forward(self, x):
            raise error

    model, before = nn.Sequential(net(), Failing()), state()
    c = OpCounter(model, every=100)
    train(model[0], c, batches(steps))
    with pytest.raises(error), c:
        model(*batches(1))
    assert state() == before
    train(model[0], c, batches(5))
    assert (c.profile.steps.total, c.profile.steps.interrupted, c.profile.steps.measured) == (steps + 5, 1, 1)
    assert c.extrapolated().macs == (steps + 5) * step_macs()
    assert state() == before


@pytest.mark.parametrize("steps", [0, 1], ids=["counted", "not counted"])
def test_a_counter_that_is_dropped_inside_a_step_leaves_nothing_behind(steps):
    before, model = state(), net()

    def drop():
        c = OpCounter(model, every=100)
        train(model, c, batches(steps))
        c.__enter__()

    with pytest.warns(ResourceWarning, match="dropped while it was counting"):
        drop()
    assert state() == before
    with OpCounter() as other:
        _in_thread(net(), *batches(1))
    assert other.macs == ROWS * (IN * OUT + OUT)


def _in_thread(function, *args):
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)))
    thread.start()
    thread.join()
    return results[0]


def test_a_step_that_is_not_counted_cannot_be_left_on_another_thread():
    model = net()
    c = OpCounter(model, every=100)
    train(model, c, batches(1))

    def leave():
        with pytest.raises(CounterStateError, match="Enter and leave a counter on one thread"):
            c.__exit__(None, None, None)
        return True

    with c:
        assert _in_thread(leave)
    assert c.profile.steps.total == 2


def test_steps_may_run_on_several_threads_one_after_the_other():
    model = net()
    c = OpCounter(model, every=3)
    for batch in batches(30):
        _in_thread(train, model, c, [batch])
    assert (c.profile.steps.total, c.extrapolated().macs) == (30, 30 * step_macs())


def test_modules_that_a_counted_step_runs_on_other_threads_are_counted():
    model = net()
    c = OpCounter(model, every=4)
    for batch in batches(40):
        with c:
            _in_thread(model, batch)
    assert c.extrapolated().macs == 40 * ROWS * (IN * OUT + OUT)


def test_another_threads_counter_counts_no_step_of_a_thread_that_has_its_own():
    """A counter without a model counts the modules of other threads, unless these count for themselves."""
    model = net()
    c = OpCounter(model, every=10)
    with OpCounter() as other:
        _in_thread(train, model, c, batches(40))
    assert other.macs == 0
    assert c.extrapolated().macs == 40 * step_macs()


def test_a_compiled_model_runs_compiled_in_steps_that_are_not_counted():
    graphs, runs = [], []

    def backend(graph, _inputs):
        graphs.append(graph)

        def run(*args):
            runs.append(graph)
            return graph.forward(*args)

        return run

    torch._dynamo.reset()
    try:
        model = torch.compile(net(), backend=backend)
        model(*batches(1))
        compiled, before = len(graphs), len(runs)
        c = OpCounter(model, every=10)
        for batch in batches(100):
            with c:
                model(batch)
        assert len(graphs) == compiled
        assert len(runs) - before == 100 - c.profile.steps.measured
        assert c.extrapolated().macs == 100 * ROWS * (IN * OUT + OUT)
    finally:
        torch._dynamo.reset()


def test_the_model_can_be_copied_and_pickled_in_any_step():
    model = net()
    c = OpCounter(model, every=2)
    for batch in batches(6):
        with c:
            model(batch)
            for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  (our own)
                assert torch.equal(twin[0].weight, model[0].weight)


def test_generators_of_random_numbers_are_left_alone():
    drawn = []
    for every in (None, 3):
        torch.manual_seed(0)
        model, c = nn.Dropout(), OpCounter(every=every)
        for _ in range(20):
            with c:
                model(torch.ones(4))
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


@pytest.mark.slow
def test_memory_is_flat_over_many_steps():
    model, batch = nn.Sequential(net(), *(nn.Tanh() for _ in range(30))), torch.randn(ROWS, IN)
    c = OpCounter(model, every=10)

    def steps(count):
        for _ in range(count):
            with c:
                model(batch).sum().backward()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    steps(500)
    before = steps(1)
    grown = steps(1_999) - before
    tracemalloc.stop()
    assert grown < 60_000  # bytes; 200 steps were counted, of 32 modules each
    assert c.extrapolated().macs == 2_500 * step_macs()
