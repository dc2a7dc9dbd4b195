"""Readings of a count for the tests of this folder: multiply-accumulates by module and phase."""

from __future__ import annotations

from collections import Counter

from torch import nn
from torch.nn import functional


def ledger(counter, *, phases=None):
    """Return ``{(path, phase): macs}`` of what is not zero."""
    sums = Counter()
    for record in counter.profile.records:
        if record.cost.macs and (phases is None or record.phase in phases):
            sums[record.path, record.phase] += record.cost.macs
    return dict(sums)


def stacks(counter, phase):
    """Return ``{stack: macs}`` of one phase."""
    sums = Counter()
    for record in counter.profile.records:
        if record.cost.macs and record.phase == phase:
            sums[record.stack] += record.cost.macs
    return dict(sums)


class Block(nn.Module):
    """Two products in modules, and one of its own: 2 -> 3 -> 5 -> 7 features."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 3, bias=False)
        self.b = nn.Linear(3, 5, bias=False)
        self.own = nn.Parameter(nn.init.xavier_uniform_(nn.Linear(5, 7).weight.data.clone()).t().contiguous())

    def products(self, x):
        return functional.relu(self.b(self.a(x).tanh())) @ self.own

    def forward(self, x):
        return self.products(x).sin()


BATCH = 11
A, B, OWN = BATCH * 2 * 3, BATCH * 3 * 5, BATCH * 5 * 7
"""Each product's multiply-accumulates; in backward the same for each gradient."""


def backward_calls_at_root(counter):
    """Return how many backward operators are charged to the root."""
    return sum(r.calls for r in counter.profile.records if r.phase == "backward" and r.stack == ("",))
