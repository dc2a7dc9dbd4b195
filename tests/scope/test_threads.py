"""Several threads: each has its own stack, and each operator is counted once, where it is known to belong."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

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
    assert len(c._scopes.threads._ended) <= 4
    assert len(c._scopes.threads.by_ident) <= 1 + 4


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

    assert count(in_thread) == count(lambda step: step()) == 2 * 2 * 3


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
