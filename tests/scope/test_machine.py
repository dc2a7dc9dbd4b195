"""A machine that builds, changes and counts modules in any order, against their own bookkeeping."""

from __future__ import annotations

import contextlib
from collections import Counter
from functools import partial

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from torch import nn
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter
from tests.scope.ledger import ledger

ROWS, WIDTH = 2, 3
ONE = ROWS * WIDTH * WIDTH
CALLS = 150
"""Modules called in one program, at the most: shared children multiply."""


class TooManyCallsError(Exception):
    """The program would take too long."""


class Book:
    """What every module computed, and what a backward would owe, since the page was turned."""

    def __init__(self):
        self.turn()

    def turn(self):
        self.entries, self.calls = Counter(), 0

    def note(self, node):
        recomputes = torch._C._current_graph_task_id() >= 0
        self.calls += 1
        if self.calls > CALLS:
            raise TooManyCallsError
        self.entries[node, "recompute" if recomputes else "forward"] += ONE


BOOK = Book()


class Node(nn.Module):
    """One product of its own, then its children, which others may share; it may call itself once more."""

    def __init__(self, children=(), how="plain", *, recursive=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.how, self.recursive = how, recursive
        for index, child in enumerate(children):
            self.add_module(str(index), child)

    def body(self, x, *, again):
        BOOK.note(self)
        x = (x @ self.weight).tanh()
        for child in self.children():
            x = child(x)
        if again:
            x = self(x, again=False)
        if self.how == "raises":
            with contextlib.suppress(ValueError):
                self.fail()
        return x

    def fail(self):
        raise ValueError

    def forward(self, x, *, again=None):
        again = self.recursive if again is None else again
        if self.how in {"reentrant", "checkpoint"} and x.requires_grad:
            options = {} if self.how == "reentrant" else {"early_stop": False}
            return checkpoint(partial(self.body, again=again), x, use_reentrant=self.how == "reentrant", **options)
        return self.body(x, again=again)


def backward_of(entries):
    """Each product that ran in forward owes its input's gradient, and its weight's unless that is frozen."""
    return {
        (node, "backward"): macs * (1 + node.weight.requires_grad)
        for (node, phase), macs in entries.items()
        if phase == "forward"
    }


def by_path(model, entries):
    paths = {module: path for path, module in model.named_modules()}
    totals = Counter()
    for (node, phase), macs in entries.items():
        totals[paths[node], phase] += macs
    return dict(totals)


class Modules(RuleBasedStateMachine):
    """Trees that grow, are shared and frozen; counters that are entered again and again, alone and nested."""

    nodes = Bundle("nodes")
    counters = Bundle("counters")

    def __init__(self):
        super().__init__()
        self.expected = {}

    @rule(target=nodes, how=st.sampled_from(["plain", "raises", "reentrant", "checkpoint"]), recursive=st.booleans())
    def leaf(self, how, recursive):
        return Node((), how, recursive=recursive)

    @rule(
        target=nodes,
        children=st.lists(nodes, min_size=1, max_size=3),
        how=st.sampled_from(["plain", "plain", "reentrant", "checkpoint"]),
        recursive=st.booleans(),
    )
    def parent(self, children, how, recursive):
        return Node(children, how, recursive=recursive)

    @rule(node=nodes, frozen=st.booleans())
    def freeze(self, node, frozen):
        node.weight.requires_grad_(not frozen)

    @rule(target=counters, node=nodes)
    def counter(self, node):
        made = OpCounter(node)
        self.expected[made] = (node, Counter())
        return made

    @rule(counter=counters, actions=st.lists(st.sampled_from(["forward", "no_grad", "step"]), min_size=1, max_size=2))
    def count(self, counter, actions):
        self.run([counter], actions)

    @rule(
        outer=counters, inner=counters, actions=st.lists(st.sampled_from(["no_grad", "step"]), min_size=1, max_size=2)
    )
    def count_nested(self, outer, inner, actions):
        """Run the inner counter's model under both; the outer one is of it only if the models are one."""
        same = self.expected[outer][0] is self.expected[inner][0]
        self.run([outer, inner] if same and outer is not inner else [inner], actions)

    @rule(counter=consumes(counters))
    def forget(self, counter):
        self.expected.pop(counter, None)

    def run(self, counters, actions):
        model = self.expected[counters[0]][0]
        BOOK.turn()
        owed = Counter()
        try:
            with contextlib.ExitStack() as entered:
                for counter in counters:
                    entered.enter_context(counter)
                for action in actions:
                    before = Counter(BOOK.entries)
                    x = torch.ones(ROWS, WIDTH, requires_grad=True)
                    with torch.no_grad() if action == "no_grad" else contextlib.nullcontext():
                        out = model(x)
                    if action == "step":
                        owed.update(backward_of(BOOK.entries - before))
                        out.sum().backward()
        except TooManyCallsError:
            for counter in counters:
                counter.reset()
                self.expected[counter] = (model, Counter())
            return
        for counter in counters:
            self.expected[counter][1].update(by_path(model, BOOK.entries + owed))

    @invariant()
    def every_counter_agrees_with_the_book(self):
        for counter, (_, expected) in self.expected.items():
            if counter._ran:
                assert ledger(counter) == dict(+expected)
                assert counter.macs == sum(expected.values())
                assert not counter.coverage.unattributed


TestModules = Modules.TestCase
TestModules.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
