"""Random programs, whose memory is compared with a look at all storages after each operator."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import suppress
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter
from tests.memory.truth import Snapshots

ACTIONS = (
    "make", "add", "view", "write", "out", "resize", "set", "drop", "cycle", "collect", "fail", "split", "cat", "data",
    "train", "complex", "foreach", "checkpoint", "reentrant", "thread",
)  # fmt: skip


def act(what: str, held: list[Any], number: int) -> None:  # noqa: C901, PLR0912, PLR0915  (a case for each action)
    """Do something with the tensors at hand, or with a new one."""
    x = held[number % len(held)] if held else torch.ones(3)
    if what == "make":
        held.append(torch.ones(number + 1))
    elif what == "add":
        held.append(x + 1)
    elif what == "view":
        held.append(x.view(-1)[:1])
    elif what == "write":
        x.mul_(2)
    elif what == "out":
        torch.add(torch.ones(number + 2), 1, out=torch.empty(0))
    elif what == "resize":
        fresh = torch.ones(number + 1)
        fresh.resize_(2 * number + 3)
        held.append(fresh)
    elif what == "set":
        other = torch.zeros(number + 4)
        torch.ones(5).set_(other)
        torch.ones(6).set_(x)
    elif what == "drop" and held:
        del held[number % len(held)]
    elif what == "cycle":
        cycle: list[Any] = [torch.ones(number + 5)]
        cycle.append(cycle)
    elif what == "collect":
        gc.collect()
    elif what == "fail":
        with suppress(RuntimeError):
            torch.ones(7) + torch.ones(number + 8)
    elif what == "split":
        held.extend(torch.ones(4, number + 1).unbind())
    elif what == "cat":
        held.append(torch.cat([torch.ones(2), torch.zeros(number + 1)]))
    elif what == "data":
        parameter = nn.Parameter(torch.ones(number + 1))
        parameter.data = torch.zeros(number + 9)
        held.append(parameter.detach())
    elif what == "train":
        weight = torch.ones(number + 1, requires_grad=True)
        (weight.exp() * weight).sum().backward()
        held.append(weight.grad)
    elif what == "complex":
        held.append(torch.view_as_real(torch.ones(number + 1, dtype=torch.complex64)).sum(-1))
    elif what in {"checkpoint", "reentrant"}:
        weight = torch.ones(number + 1, requires_grad=True)
        checkpoint(lambda x: x.exp().sin(), weight, use_reentrant=what == "reentrant").sum().backward()
        held.append(weight.grad)
    elif what == "thread" and held:  # which drops what this one has made
        dropping = threading.Thread(target=held.pop, args=(number % len(held),))
        dropping.start()
        dropping.join()
    elif what == "foreach":
        held.extend(torch._foreach_add([torch.ones(3), torch.ones(number + 1)], 1))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 40)), max_size=25))
def test_peak_and_breakdown_are_those_of_a_snapshot_after_each_operator(program: list[tuple[str, int]]) -> None:
    held: list[Any] = []
    gc.disable()  # or a cycle may be freed between the snapshot and the account; "collect" frees them
    try:
        with Snapshots() as truth, OpCounter(memory=True) as c:
            for what, number in program:
                act(what, held, number)
    finally:
        gc.enable()
    assert c.memory.peak == truth.peak
    assert c.memory.by_operator() == truth.by_operator


def test_nothing_is_kept_alive_that_a_program_drops() -> None:
    with OpCounter(memory=True) as c:
        storage = torch.ones(1000).exp()
        dies = weakref.ref(storage.untyped_storage())
        del storage
        assert dies() is None
        torch.ones(1)
    assert c.memory.peak == 8000


def test_a_hundred_thousand_steps_leave_the_tracker_as_small_as_a_thousand() -> None:
    with OpCounter(memory=True) as c:
        x = torch.ones(8)
        tracker = c._memory.till.tracker
        for step in range(100_000):
            if step == 1000:
                before = len(gc.get_objects())
            x = x + 1
        grown = len(gc.get_objects()) - before
        assert len(tracker.held) <= 4
        assert len(tracker._dead) <= 4
    assert sum(len(ledger.rows) for ledger in tracker.ledgers.values()) <= 4
    assert grown < 100
    assert len(c.memory.curve) <= 256


def test_threads_leave_an_account_that_adds_up() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    x = torch.ones(4, 8)

    def work() -> None:
        for _ in range(60):
            model(x).sum().backward()

    with OpCounter(model, memory=True) as c:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        model.zero_grad()
        gc.collect()
        torch.ones(1).add_(1)
        tracker = c._memory.till.tracker
        tracker.settle()
        ledger = next(iter(tracker.ledgers.values()))
        weights = sum(p.nbytes for p in model.parameters())
        assert ledger.base + ledger.live == weights + x.nbytes + sum(
            held.size for held in tracker.held.values() if held.row.key[3] not in {"parameters", "inputs"}
        )
    memory = c.memory
    assert sum(record.bytes for record in memory.records) == memory.peak
    assert memory.peak >= weights * 2 + x.nbytes


def test_an_interrupted_block_still_adds_up() -> None:
    model = nn.Linear(8, 8)
    with suppress(KeyboardInterrupt), OpCounter(model, memory=True) as c:
        model(torch.ones(2, 8)).sum().backward()
        raise KeyboardInterrupt
    assert sum(record.bytes for record in c.memory.records) == c.memory.peak
