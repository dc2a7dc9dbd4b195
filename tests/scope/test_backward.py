"""Modules that the operators of a backward belong to, beyond what the training programs show."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter
from tests.scope.ledger import BATCH, OWN, A, B, Block, backward_calls_at_root, ledger

TWICE = {("a", "backward"): 2 * A, ("b", "backward"): 2 * B, ("", "backward"): 2 * OWN}
FORWARD = {("a", "forward"): A, ("b", "forward"): B, ("", "forward"): OWN}


def x():
    return torch.randn(BATCH, 2, requires_grad=True)


def backward_of(model, program):
    with OpCounter(model) as c:
        program(model)
    assert not c.coverage.unattributed
    return ledger(c, phases={"backward"})


def test_backward_after_the_module_has_run_again_without_gradients():
    def program(model):
        loss = model(x()).sum()
        with torch.no_grad():
            model(x())
        loss.backward()

    assert backward_of(Block(), program) == TWICE


def test_functional_gradients_and_maps_of_them():
    block = Block()
    parameters = dict(block.named_parameters())

    def loss(parameters, t):
        return torch.func.functional_call(block, parameters, (t,)).sum()

    expected = {("a", "backward"): A, ("b", "backward"): 2 * B, ("", "backward"): 2 * OWN}
    t = torch.randn(BATCH, 2)
    assert backward_of(block, lambda _: torch.func.grad(loss)(parameters, t)) == expected
    with OpCounter(block) as c:
        torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, t.unsqueeze(1))
    assert ledger(c, phases={"backward"}) == expected
    assert ledger(c, phases={"forward"}) == FORWARD


def test_an_optimizer_that_steps_inside_backward_is_an_optimizer():
    linear = nn.Linear(2, 3, bias=False)
    optimizer = torch.optim.AdamW(linear.parameters())

    def step(_):
        optimizer.step()
        optimizer.zero_grad()

    handle = linear.weight.register_post_accumulate_grad_hook(step)
    with OpCounter(linear) as c:
        linear(x()).sum().backward()
    handle.remove()
    phases = {r.phase for r in c.profile.records}
    assert phases == {"forward", "backward", "optimizer"}
    assert c.by_phase()["optimizer"].arith >= 2 * 3 * 8


def test_what_was_not_observed_is_said():
    block = Block()
    loss = block(x()).sum()
    with OpCounter(block) as c:
        loss.backward()
    assert c.macs == 2 * (A + B + OWN)
    assert c.by_module()["a"].macs == 0
    assert c.coverage.unattributed["forward was not observed"] == backward_calls_at_root(c)
    assert "charged to the root: forward was not observed" in c.coverage.verdict()


def test_backward_in_a_later_block_finds_the_modules_of_an_earlier_one():
    with OpCounter(block := Block()) as c:
        loss = block(x()).sum()
    with c:
        loss.backward()
    assert ledger(c) == FORWARD | TWICE


def test_gradients_add_up_at_the_owner_of_a_parameter():
    block = Block()
    with OpCounter(block, convention="full") as c:
        for _ in range(2):
            block(x()).sum().backward()
    adds = {r.path: r.cost.arith for r in c.profile.records if r.operator.startswith("aten.add") and "back" in r.phase}
    assert adds == {"a": 2 * 3, "b": 3 * 5, "": 5 * 7}


def test_the_flops_of_a_shared_module_are_those_of_pytorchs_own_counter():
    shared = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(3, 2, bias=False))
    t = torch.randn(5, 3)
    with FlopCounterMode(display=False) as torchs:
        model(t).sum().backward()
    with OpCounter(model) as c:
        model(t).sum().backward()
    assert torchs.get_total_flops() == 2 * c.macs
    # Forward 2 x 5 x 3 x 3; backward: two gradients of the weight, one of the inner input.
    assert c.by_module()["0"].macs == 5 * 3 * 3 * (2 + 3)


def test_matmuls_between_modules_stay_with_the_caller():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k = nn.Linear(2, 3, bias=False), nn.Linear(2, 3, bias=False)

        def forward(self, t):
            return functional.softmax(self.q(t) @ self.k(t).t(), -1)

    with OpCounter(model := nn.Sequential(Attention())) as c:
        model(x()).pow(2).sum().backward()
    own = BATCH * BATCH * 3
    assert ledger(c, phases={"backward"}) == {
        ("0.q", "backward"): 2 * A,
        ("0.k", "backward"): 2 * A,
        ("0", "backward"): 2 * own,
    }


def test_a_graph_made_between_two_blocks_is_unattributed_operator_by_operator():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    x = torch.randn(2, 3, requires_grad=True)
    c = OpCounter(model)
    with c:
        model(x)
    y = model(x).sum()
    with c:
        model(x)
        y.backward()
    assert sum(c.coverage.unattributed.values()) >= 4  # two products of each node, and what leads to them
    assert c.by_module()["0"].macs == 2 * 2 * 3 * 3
