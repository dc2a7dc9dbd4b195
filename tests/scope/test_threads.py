"""Several threads: each has its own stack, and each operator is counted once, where it is known to belong."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.scope import thread_scopes as scope_threads
from tests.conftest import traces
from tests.scope.ledger import BATCH, OWN, A, B, Block, backward_calls_at_root, ledger, stacks

FORWARD = {("a", "forward"): A, ("b", "forward"): B, ("", "forward"): OWN}
BACKWARD = {("a", "backward"): A, ("b", "backward"): 2 * B, ("", "backward"): 2 * OWN}
"""The data need no gradient."""


def data():
    return torch.randn(BATCH, 2)


def in_thread(function, *args):
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)))
    thread.start()
    thread.join()
    return results[0]


def test_a_model_that_runs_in_a_pool_is_counted_by_module():
    block = Block()
    with OpCounter(block) as c, ThreadPoolExecutor(2) as pool:
        list(pool.map(block, [data() for _ in range(8)]))
    assert ledger(c) == {key: 8 * macs for key, macs in FORWARD.items()}
    assert c.profile.modules["a"].calls == 8


def test_each_thread_counts_for_itself():
    barrier = threading.Barrier(2)
    counts = {}

    def count(batch):
        block = Block()
        with OpCounter(block) as c:
            barrier.wait()
            block(torch.randn(batch, 2)).sum().backward()
            barrier.wait()
        counts[batch] = ledger(c)

    before = traces()
    workers = [threading.Thread(target=count, args=(batch,)) for batch in (3, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for batch in (3, 5):
        assert counts[batch] == {key: macs * batch // BATCH for key, macs in (FORWARD | BACKWARD).items()}
    assert traces() == before


def test_a_backward_on_another_thread_is_counted_by_module():
    block = Block()
    with OpCounter(block) as c:
        loss = block(data()).sum()
        in_thread(loss.backward)
    assert ledger(c) == FORWARD | BACKWARD
    assert not c.coverage.unattributed


def test_a_backward_on_another_thread_of_another_model_is_not_ours():
    block, other = Block(), Block()
    with OpCounter(block) as c:
        block(data())
        in_thread(lambda: other(data()).sum().backward())
    assert ledger(c) == FORWARD


def test_forward_on_another_thread_and_backward_on_this_one():
    block = Block()
    with OpCounter(block) as c:
        in_thread(block, data()).sum().backward()
    assert c.macs == sum((FORWARD | BACKWARD).values())
    if not c.coverage.unattributed:
        assert ledger(c) == FORWARD | BACKWARD


def test_what_two_threads_may_both_have_made_is_counted_at_the_root_and_said():
    one, two = nn.Linear(2, 3, bias=False), nn.Linear(2, 5, bias=False)
    with OpCounter(nn.ModuleDict({"one": one, "two": two})) as c:
        (in_thread(one, data()).sum() + in_thread(two, data()).sum()).backward()
    forward, backward = BATCH * 2 * (3 + 5), BATCH * 2 * (3 + 5)
    assert c.macs == forward + backward
    assert (
        c.coverage.unattributed["forward ran in several threads at once"] == backward_calls_at_root(c) - 2
    )  # known: the sums
    assert stacks(c, "forward") == {("", "one"): BATCH * 2 * 3, ("", "two"): BATCH * 2 * 5}


def test_replicas_bear_the_paths_of_what_they_replicate():
    block = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 5, bias=False))
    replicas = [module._replicate_for_data_parallel() for module in block]
    for replica, module in zip(replicas, block, strict=True):
        replica.weight, replica.bias = module.weight, None  # replicas have tensors for parameters
    with OpCounter(block) as c:
        in_thread(replicas[0], data())
        replicas[1](torch.randn(BATCH, 3))
    assert ledger(c) == {("0", "forward"): A, ("1", "forward"): B}


def test_workers_of_a_data_loader_are_none_of_our_threads():
    rows = torch.utils.data.TensorDataset(torch.randn(6, 2))
    linear = nn.Linear(2, 3, bias=False)
    with OpCounter(linear) as c:
        for (batch,) in torch.utils.data.DataLoader(rows, batch_size=3, num_workers=1):
            linear(batch)
    assert c.macs == 6 * 2 * 3


def test_threads_that_come_and_go_leave_bounded_memory(monkeypatch):
    monkeypatch.setattr(scope_threads, "_REMEMBERED", 4)
    linear = nn.Linear(2, 3, bias=False)
    with OpCounter(linear) as c:
        for _ in range(50):
            in_thread(linear, data())
    assert c.macs == 50 * A
    assert len(c._scopes._threads._ended) <= 4
    assert len(c._scopes._threads.by_ident) <= 1 + 4


def test_a_counter_that_ends_while_a_thread_runs_its_model_lets_go_of_it():
    running, proceed = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3, bias=False)

        def forward(self, x):
            running.set()
            proceed.wait(10)
            return self.layer(x)

    model = Slow()
    heights = []

    def work():
        model(data())
        heights.append(torch._C._len_torch_dispatch_stack())

    before = traces()
    thread = threading.Thread(target=work)
    with OpCounter(model):
        thread.start()
        running.wait(10)
    proceed.set()
    thread.join()
    assert heights == [0]
    assert traces() == before


def test_phases_hold_on_every_thread():
    linear = nn.Linear(2, 3, bias=False)
    with OpCounter(linear) as c:
        with c.phase("prefill"):
            in_thread(linear, data())
            linear(data())
        linear(data())
    assert ledger(c) == {("", "prefill"): 2 * A, ("", "forward"): A}


def frozen():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 5, bias=False)).requires_grad_(False)


FROZEN = BATCH * (2 * 3 + 3 * 5)
"""Of forward, and of the input's gradient."""


def wanted():
    return data().requires_grad_()


def by_path(c):
    return {(path, phase): macs for (path, phase), macs in ledger(c).items() if macs}


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_backward_of_a_frozen_model_on_another_thread_is_counted_by_module(scale):
    model = frozen()
    with OpCounter(model) as c:
        loss = (model(wanted() * scale) * scale).sum()
        in_thread(loss.backward)
    layers = {"0": BATCH * 2 * 3, "1": BATCH * 3 * 5}
    assert by_path(c) == {(path, phase): layers[path] for path in layers for phase in ("forward", "backward")}
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
    assert c.coverage.unattributed["forward was not observed"] > 0


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


def test_another_programs_training_is_not_ours_whatever_its_nodes_are_numbered():
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
    subprocess.run([sys.executable, "-c", script], check=True)


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


def trained():
    model = nn.Linear(2, 3, bias=False)
    model(data()).sum().backward()
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("given", [True, False])
def test_an_optimizer_that_steps_on_another_thread_is_counted(given):
    def count(run):
        model, optimizer = trained()
        with OpCounter(model if given else None) as c:
            run(optimizer.step)
        return c.by_phase()["optimizer"].arith

    assert count(in_thread) == count(lambda step: step()) > 0


def test_a_training_loop_on_another_thread_is_counted_as_on_this_one():
    def count(run):
        model, optimizer = trained()

        def train():
            for _ in range(3):
                optimizer.zero_grad()
                model(data()).square().mean().backward()
                optimizer.step()

        with OpCounter(model) as c:
            run(train)
        return {phase: total.macs for phase, total in c.by_phase().items()}, c.by_phase()["optimizer"]

    assert count(in_thread) == count(lambda train: train())


def test_the_optimizer_of_another_model_is_not_ours():
    model, (_, optimizer) = nn.Linear(2, 3), trained()
    with OpCounter(model) as c:
        in_thread(optimizer.step)
    assert not c.by_phase()


def test_a_step_that_raises_on_another_thread_leaves_no_mode_there():
    model, optimizer = trained()
    heights = []

    def closure():
        heights.append(torch._C._len_torch_dispatch_stack())
        raise KeyError

    def work():
        with pytest.raises(KeyError):
            optimizer.step(closure)
        heights.append(torch._C._len_torch_dispatch_stack())

    with OpCounter(model):
        in_thread(work)
    assert heights == [1, 0]
