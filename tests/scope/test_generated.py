"""Generated trees of modules, run by generated programs, against bookkeeping that the modules do themselves."""

from __future__ import annotations

import contextlib
from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter
from tests.scope.ledger import ledger

ROWS, WIDTH = 2, 3
ONE = ROWS * WIDTH * WIDTH

kinds = st.sampled_from(["plain", "plain", "checkpoint", "reentrant", "frozen", "twice", "raises"])
trees = st.recursive(st.tuples(kinds, st.just(())), lambda t: st.tuples(kinds, st.lists(t, max_size=3)), max_leaves=6)


class Failing(nn.Module):
    """Is left by an exception, from inside a module of its own."""

    def __init__(self):
        super().__init__()
        self.softmax = nn.Softmax(dim=99)

    def forward(self, x):
        try:
            return self.softmax(x)
        except IndexError as error:
            raise ValueError from error


class Node(nn.Module):
    """One product of its own, then its children; it notes what it computes, and what its backward will owe."""

    def __init__(self, tree, book, path=""):
        super().__init__()
        self.kind, children = tree
        self.book, self.path = book, path
        self.failing = [Failing()]  # not of the model
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH), requires_grad=self.kind != "frozen")
        for index, child in enumerate(children):
            self.add_module(str(index), Node(child, book, f"{path}.{index}" if path else str(index)))

    def body(self, x):
        self.book[self.path, "recompute" if torch._C._current_graph_task_id() >= 0 else "forward"] += ONE
        x = (x @ self.weight).tanh()
        for _ in range(2 if self.kind == "twice" else 1):
            for child in self.children():
                x = child(x)
        return x

    def forward(self, x):
        if self.kind == "raises":
            with contextlib.suppress(ValueError):
                self.failing[0](x)
        if self.kind in {"checkpoint", "reentrant"} and x.requires_grad:
            reentrant = self.kind == "reentrant"
            x = checkpoint(self.body, x, use_reentrant=reentrant, **({} if reentrant else {"early_stop": False}))
        else:
            x = self.body(x)
        return x


def owed(book, model):
    """A product owes in backward its input's gradient, and its weight's unless that is frozen."""
    frozen = {module.path for module in model.modules() if module.kind == "frozen"}
    once = {path: macs for (path, phase), macs in book.items() if phase == "forward"}
    return once, frozen


@settings(max_examples=60)
@given(trees, st.lists(st.sampled_from(["step", "no_grad", "forward"]), min_size=1, max_size=3))
def test_records_agree_with_what_modules_note_themselves(tree, program):
    book, backward = Counter(), Counter()
    model = Node(tree, book)
    with OpCounter(model) as outer, OpCounter(model) as inner:
        for action in program:
            before = Counter(book)
            x = torch.ones(ROWS, WIDTH, requires_grad=True)
            with torch.no_grad() if action == "no_grad" else contextlib.nullcontext():
                out = model(x)
            if action == "step":
                once, frozen = owed(book - before, model)
                for path, macs in once.items():
                    backward[path, "backward"] += macs * (1 if path in frozen else 2)
                out.sum().backward()
    # Of checkpoints inside checkpoints, each level runs again: the modules noted that, too.
    assert ledger(outer) == ledger(inner) == {**book, **backward}
    assert outer.macs == sum(record.cost.macs for record in outer.profile.records)
    assert not outer.coverage.unattributed
