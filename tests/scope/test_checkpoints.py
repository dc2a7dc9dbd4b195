"""Operators that a checkpoint runs again belong to the frame that ran them in forward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import checkpoint as checkpoints
from torch.utils.checkpoint import noop_context_fn

from opcount import OpCounter
from tests.features import feature
from tests.scope.ledger import BATCH, OWN, A, B, Block, ledger, stacks

BOTH = pytest.mark.parametrize("reentrant", [True, False])


def checkpoint(function, *args, early_stop=True, **options):
    """Do what PyTorch's does, which takes no ``early_stop`` before 2.9."""
    with checkpoints.set_checkpoint_early_stop(enable=early_stop):
        return checkpoints.checkpoint(function, *args, **options)


def options(reentrant):
    """Have the whole function run again, and not only until all is there that backward needs."""
    return {"use_reentrant": reentrant} | ({} if reentrant else {"early_stop": False})


class Checkpointed(nn.Module):
    def __init__(self, function, **options):
        super().__init__()
        self.block = Block()
        self.function = function
        self.options = options

    def forward(self, x):
        return checkpoint(self.function(self.block), x, **self.options)


def x():
    return torch.randn(BATCH, 2, requires_grad=True)


@BOTH
def test_a_checkpointed_module_is_recomputed_where_it_ran(reentrant):
    model = Checkpointed(lambda block: block, **options(reentrant))
    with OpCounter(model) as c:
        model(x()).sum().backward()
    once = {"block.a": A, "block.b": B, "block": OWN}
    assert ledger(c, phases={"forward"}) == {(path, "forward"): macs for path, macs in once.items()}
    assert ledger(c, phases={"recompute"}) == {(path, "recompute"): macs for path, macs in once.items()}
    assert ledger(c, phases={"backward"}) == {(path, "backward"): 2 * macs for path, macs in once.items()}
    assert stacks(c, "recompute") == stacks(c, "forward")


@BOTH
def test_a_checkpointed_method_is_recomputed_in_its_caller_even_outside_modules(reentrant):
    class Model(Block):
        def forward(self, x):
            return checkpoint(self.products, x, **options(reentrant)).sin()

    model = nn.Sequential(Model())
    with OpCounter(model) as c:
        model(x()).sum().backward()
    assert stacks(c, "forward") == {("", "0", "0.a"): A, ("", "0", "0.b"): B, ("", "0"): OWN}
    assert stacks(c, "recompute") == stacks(c, "forward")
    assert stacks(c, "backward") == {stack: 2 * macs for stack, macs in stacks(c, "forward").items()}


@BOTH
def test_a_checkpointed_function_without_modules_is_recomputed_in_its_caller(reentrant):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3))

        def forward(self, x):
            return checkpoint(lambda t: (t @ self.weight).tanh(), x, use_reentrant=reentrant)

    model = nn.Sequential(Model())
    with OpCounter(model) as c:
        model(x()).sum().backward()
    assert ledger(c) == {("0", "forward"): A, ("0", "recompute"): A, ("0", "backward"): 2 * A}


def test_a_checkpoint_outside_any_module_is_recomputed_at_the_root():
    block = Block()
    with OpCounter(block) as c:
        checkpoint(block.products, x(), use_reentrant=False, early_stop=False).sum().backward()
    assert ledger(c, phases={"recompute"}) == {("a", "recompute"): A, ("b", "recompute"): B, ("", "recompute"): OWN}


def test_what_a_checkpointed_function_runs_without_gradients_is_recomputed_too():
    weight = torch.randn(2, 3)

    def function(t):
        with torch.no_grad():
            scale = (t @ weight).sum()
        return (t * scale).tanh()

    with OpCounter() as c:
        checkpoint(function, x(), use_reentrant=False).sum().backward()
    assert ledger(c) == {("", "forward"): A, ("", "recompute"): A}


@BOTH
def test_nested_checkpoints_recompute_each_level(reentrant):
    inner = Checkpointed(lambda block: block.products, use_reentrant=reentrant)
    outer = nn.Sequential(inner)
    with OpCounter(outer) as c:
        checkpoint(outer, x(), use_reentrant=reentrant).sum().backward()
    assert ledger(c, phases={"forward"}) == {
        ("0.block.a", "forward"): A,
        ("0.block.b", "forward"): B,
        ("0", "forward"): OWN,
    }
    again = ledger(c, phases={"recompute"})
    # The outer reentrant one runs all again, with the inner one's first run in it; the other stops right before it,
    # for the inner one keeps nothing that the outer one would have to bring back.
    assert again["0.block.a", "recompute"] == (2 * A if reentrant else A)
    assert ledger(c, phases={"backward"}) == {
        ("0.block.a", "backward"): 2 * A,
        ("0.block.b", "backward"): 2 * B,
        ("0", "backward"): 2 * OWN,
    }


def test_a_selective_checkpoint_recomputes_only_what_it_did_not_save():
    saved = [torch.ops.aten.mm.default]
    context = lambda: feature("torch.utils.checkpoint.create_selective_checkpoint_contexts")(saved)
    products = {}
    for context_fn in (noop_context_fn, context):
        model = Checkpointed(lambda block: block, use_reentrant=False, context_fn=context_fn)
        with OpCounter(model) as c:
            model(x()).sum().backward()
        products[context_fn] = sum(ledger(c, phases={"recompute"}).values())
        assert c.by_phase()["recompute"].arith == BATCH * (3 + 5)  # tanh and relu
    assert products == {noop_context_fn: A + B + OWN, context: 0}


def test_retained_graphs_recompute_each_time():
    model = Checkpointed(lambda block: block.products, use_reentrant=False)
    with OpCounter(model) as c:
        loss = model(x()).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert ledger(c, phases={"recompute"})["block.a", "recompute"] == 2 * A
    assert ledger(c, phases={"backward"})["block.a", "backward"] == 2 * 2 * A


def test_under_create_graph_a_checkpoint_still_recomputes_and_backward_is_still_backward():
    model = Checkpointed(lambda block: block.products, use_reentrant=False, early_stop=False)
    with OpCounter(model) as c:
        leaf = x()
        (gradient,) = torch.autograd.grad(model(leaf).pow(2).sum(), leaf, create_graph=True)
    assert gradient.requires_grad
    assert ledger(c, phases={"recompute"}) == {
        ("block.a", "recompute"): A,
        ("block.b", "recompute"): B,
        ("", "recompute"): OWN,
    }
    assert ledger(c, phases={"backward"}) == {
        ("block.a", "backward"): A,
        ("block.b", "backward"): B,
        ("", "backward"): OWN,
    }


def test_a_function_that_computes_again_in_its_own_backward_recomputes():
    class Again(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t, weight):
            ctx.save_for_backward(t, weight)
            return (t @ weight).tanh()

        @staticmethod
        def backward(ctx, gradient):
            t, weight = (s.detach().requires_grad_() for s in ctx.saved_tensors)
            with torch.enable_grad():
                out = (t @ weight).tanh()
            return torch.autograd.grad(out, (t, weight), gradient)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3))

        def forward(self, t):
            return Again.apply(t, self.weight)

    model = nn.Sequential(Model())
    with OpCounter(model) as c:
        model(x()).sum().backward()
    assert ledger(c) == {("0", "forward"): A, ("0", "recompute"): A, ("0", "backward"): 2 * A}


def test_a_recompute_that_fails_leaves_nothing_on_the_stack():
    fail = [False]
    linear, other = nn.Linear(2, 3, bias=False), nn.Linear(2, 5, bias=False)

    class Failing(nn.Module):
        def forward(self, t):
            if fail[0]:
                raise KeyboardInterrupt
            return t.tanh()

    model = nn.Sequential(linear, Failing())
    with OpCounter(nn.ModuleDict({"model": model, "other": other})) as c:
        loss = checkpoint(model, x(), use_reentrant=False, early_stop=False).sum()
        fail[0] = True
        with pytest.raises(KeyboardInterrupt):
            loss.backward()
        torch.ones(BATCH, 3) @ torch.ones(3, 5)
        other(x())
    assert stacks(c, "forward") == {("", "model", "model.0"): A, ("",): B, ("", "other"): BATCH * 2 * 5}
