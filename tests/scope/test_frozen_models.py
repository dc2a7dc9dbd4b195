"""Models without weights to train: their backward on another thread is known by the graph alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
import torch
from torch import nn

from opcount import OpCounter
from tests.scope.ledger import BATCH, backward_calls_at_root, ledger
from tests.scope.test_threads import data, in_thread


def frozen():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 5, bias=False)).requires_grad_(False)


FROZEN = BATCH * (2 * 3 + 3 * 5)
"""Products of forward, and of the input's gradient."""


def wanted():
    return data().requires_grad_()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_backward_of_a_frozen_model_on_another_thread_is_counted_by_module(scale):
    model = frozen()
    with OpCounter(model) as c:
        loss = (model(wanted() * scale) * scale).sum()
        in_thread(loss.backward)
    layers = {"0": BATCH * 2 * 3, "1": BATCH * 3 * 5}
    assert ledger(c) == {(path, phase): layers[path] for path in layers for phase in ("forward", "backward")}
    assert not c.coverage.unattributed


BACKWARDS = {
    "of a module": lambda model, x: model(x).sum().backward,
    "of plain functions": lambda model, x: (x @ model[0].weight.t() @ model[1].weight.t()).sum().backward,
    "by autograd.grad": lambda model, x: partial(torch.autograd.grad, model(x).sum(), x),
    "of a product of its own": lambda model, x: partial(torch.autograd.backward, model(x), torch.ones(BATCH, 5)),
}


@pytest.mark.parametrize("counters", [1, 2])
@pytest.mark.parametrize("name", BACKWARDS)
def test_a_backward_of_frozen_weights_on_another_thread_is_counted(name, counters):
    model, x = frozen(), wanted()
    with ExitStack() as stack:
        nested = [stack.enter_context(OpCounter(model)) for _ in range(counters)]
        in_thread(BACKWARDS[name](model, x))
    assert [c.macs for c in nested] == [2 * FROZEN] * counters


def test_a_backward_without_a_model_on_another_thread_is_counted():
    model, x = frozen(), wanted()
    with OpCounter() as c:
        in_thread(model(x).sum().backward)
    assert c.macs == 2 * FROZEN


def test_backwards_on_several_threads_at_once_are_counted_once_each():
    model = frozen()
    with OpCounter(model) as c, ThreadPoolExecutor(4) as pool:
        losses = [model(wanted()).sum() for _ in range(8)]
        for done in [pool.submit(loss.backward) for loss in losses]:
            done.result()
    assert c.macs == 8 * 2 * FROZEN


def test_a_thread_that_ran_a_frozen_model_may_run_it_backward():
    model = frozen()

    def step():
        (model(wanted()) * 2).sum().backward()

    with OpCounter(model) as c:
        in_thread(step)
    assert c.macs == 2 * FROZEN


def test_a_second_derivative_on_another_thread_is_counted():
    model, x = frozen(), wanted()

    def penalty():
        (grad,) = torch.autograd.grad((model(x) ** 2).sum(), x, create_graph=True)
        grad.sum().backward()

    def count(run):
        with OpCounter(model) as c:
            run(penalty)
        return c.macs

    assert count(in_thread) == count(lambda function: function())


def test_a_graph_made_partly_or_wholly_before_the_block_is_counted_and_named():
    model, x = frozen(), wanted()
    hidden = model[0](x)
    with OpCounter(model) as c:
        in_thread(model[1](hidden).sum().backward)
    assert c.macs == BATCH * (3 * 5 + 3 * 5 + 2 * 3)
    assert c.coverage.unattributed["forward was not observed"] == backward_calls_at_root(c) - 1  # known: the sum
    loss = model(x).sum()
    with OpCounter(model) as c:
        in_thread(loss.backward)
    assert c.macs == FROZEN
    assert c.coverage.unattributed["forward was not observed"] == 1 + 2 * 2  # the sum, and what two layers run


def test_a_thread_that_counts_for_itself_may_run_backward_what_another_counted():
    model, x = frozen(), wanted()
    counts = []

    def work(loss):
        with OpCounter() as c:
            loss.backward()
        counts.append(c.macs)

    with OpCounter(model) as c:
        in_thread(work, model(x).sum())
    assert (c.macs, counts) == (2 * FROZEN, [FROZEN])


def test_threads_that_share_a_frozen_model_each_count_their_own():
    model, barrier, counts = frozen(), threading.Barrier(2), []

    def work():
        with OpCounter(model) as c:
            barrier.wait()
            for _ in range(3):
                model(wanted()).sum().backward()
            barrier.wait()
        counts.append(c.macs)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert counts == [3 * 2 * FROZEN] * 2


def test_another_programs_training_is_not_ours_whatever_its_nodes_are_numbered(forked):
    script = """
import threading, torch
from torch import nn
from opcount import OpCounter
model, other, barrier = nn.Linear(2, 3, bias=False).requires_grad_(False), nn.Linear(2, 7), threading.Barrier(2)
def train():
    for _ in range(4):
        barrier.wait()
        other(torch.ones(4, 2)).sum().backward()
        barrier.wait()
thread = threading.Thread(target=train)
with OpCounter(model) as c:
    thread.start()
    for _ in range(4):
        barrier.wait()
        model(torch.ones(4, 2, requires_grad=True)).sum().backward()
        barrier.wait()
thread.join()
assert c.macs == 4 * 2 * 4 * 2 * 3, c.macs
"""
    done = forked(script)
    assert done.returncode == 0, done.stderr


def test_a_worker_with_a_history_of_its_own_is_counted_and_said():
    model, x = frozen(), wanted()
    ready, go, macs = threading.Event(), threading.Event(), []

    def work():
        for _ in range(torch._C._autograd._get_sequence_nr() + 10_000):
            wanted() * 2
        ready.set()
        go.wait(30)
        losses.pop().backward()

    losses = []
    worker = threading.Thread(target=work)

    def main():
        worker.start()
        ready.wait(30)
        with OpCounter(model) as c:
            losses.append(model(x).sum())
            go.set()
            worker.join()
        macs.append((c.macs, dict(c.coverage.unattributed)))

    in_thread(main)  # whose nodes are numbered from 0 on
    assert macs == [(2 * FROZEN, {"backward on another thread, of a graph that may be that thread's own": 1})]


def test_another_models_parameters_make_a_graph_another_programs():
    model, other, go = frozen(), nn.Linear(2, 7), threading.Event()
    ready = threading.Event()

    def train():
        for _ in range(torch._C._autograd._get_sequence_nr() + 1_000):
            wanted() * 2
        ready.set()
        go.wait(30)
        first, second = other(data()).sum(), other(data()).sum()
        (first * 1).backward()
        second.backward()

    macs = []

    def main():
        worker = threading.Thread(target=train)
        worker.start()
        ready.wait(30)
        with OpCounter(model) as c:
            model(wanted())
            go.set()
            worker.join()
        macs.append(c.macs)

    in_thread(main)
    assert macs == [FROZEN]
