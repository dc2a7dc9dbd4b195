"""Higher-order operators compile themselves where dynamo is loaded: gradients stay as they are without a counter."""

# ruff: noqa: PLC0415  (each operator has a module of its own, slow to import)

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.features import require, runs_of_scan, tree_leaves

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # PyTorch's own imports
    pytest.mark.skipif(
        not hasattr(TorchDispatchMode, "ignore_compile_internals"), reason="dynamo compiles nothing under a mode"
    ),
]

W = torch.arange(16.0).reshape(4, 4) / 16
YES = torch.tensor(True)
ONCE = 3 * 4 * 4


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return torch.cond(YES, lambda a: self.layer(a).relu(), lambda a: a * 2, (x,))


def mapped(x):
    from torch._higher_order_ops.map import map as map_

    return map_(lambda a: a @ W, x)


def scan(x):
    from torch._higher_order_ops.scan import scan

    return scan(lambda carry, a: (carry @ W, carry + a), x, torch.ones(5, 3, 4))


def while_loop(x):
    from torch._higher_order_ops.while_loop import while_loop

    return while_loop(lambda i, _: i < 3, lambda i, a: (i + 1, a @ W), (torch.tensor(0), x))


def cond(x, *, true=lambda a: a @ W, false=lambda a: a @ W @ W):
    return torch.cond(YES, true, false, (x,))


BODIES = {
    # a product, once more in backward, and one for its gradient
    "one tensor": (cond, ONCE, 2 * ONCE),
    "a tuple": (lambda x: cond(x, true=lambda a: (a @ W,), false=lambda a: (a * 2,)), ONCE, 2 * ONCE),
    "a dict": (lambda x: cond(x, true=lambda a: {"a": a @ W}, false=lambda a: {"a": a * 2}), ONCE, 2 * ONCE),
    "no operands": (lambda x: torch.cond(YES, lambda: x @ W, lambda: x * 2), ONCE, 2 * ONCE),
    # the gradient of the weight as well
    "a module": (Branches(), ONCE, 3 * ONCE),
    "map": (mapped, ONCE, 2 * ONCE),
    "scan": (scan, runs_of_scan(5) * ONCE, 5 * ONCE),
    "while_loop": (while_loop, 3 * ONCE, 6 * ONCE),
}


def gradients(program):
    torch.manual_seed(0)
    x = torch.randn(3, 4, requires_grad=True)
    weights = list(program.parameters()) if isinstance(program, nn.Module) else []
    loss = sum(out.sum() for out in tree_leaves(program(x)) if out.requires_grad)
    return torch.autograd.grad(loss, [x, *weights])


@pytest.mark.parametrize("counters", [1, 2])
@pytest.mark.parametrize("name", BODIES)
def test_gradients_are_those_of_a_bare_run_and_belong_to_backward(name, counters):
    if name == "scan":
        require("a backward of scan that runs no forward again")
    program, forward, backward = BODIES[name]
    expected = gradients(program)
    with OpCounter(strict=True) as outer:
        if counters == 2:
            with OpCounter(strict=True) as inner:
                found = gradients(program)
        else:
            found = gradients(program)
            inner = outer
    for counter in (outer, inner):
        macs = {phase: total.macs for phase, total in counter.by_phase().items() if total.macs}
        assert macs == {"forward": forward, "backward": backward}
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("grad", [False, True])
def test_what_a_body_runs_belongs_to_the_module_that_calls_the_operator(grad):
    model = nn.Sequential(Branches())
    with torch.set_grad_enabled(grad), OpCounter(model) as counter:
        model(torch.ones(3, 4))
    modules = {path: total.macs for path, total in counter.by_module().items()}
    assert modules == {"": ONCE, "0": ONCE, "0.layer": 0}


def test_functions_of_the_program_are_compiled_as_little_as_before():
    graphs = []
    torch._dynamo.reset()
    function = torch.compile(lambda a: a * 2, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    with OpCounter():
        cond(function(torch.ones(3, 4)))
        function(torch.ones(3, 4))
    assert not graphs
    function(torch.ones(3, 4))
    assert len(graphs) == 1


DIFFERENTIATED = {"a tuple"}
"""Bodies of operators that are differentiated without being compiled."""


@pytest.mark.parametrize("name", BODIES)
def test_a_dry_run_counts_forward_and_refuses_a_backward_that_would_lack_gradients(name):
    program, forward, backward = BODIES[name]
    with torch.no_grad(), OpCounter(dry_run=True, strict=True) as counter:
        program(torch.ones(3, 4))
    assert counter.macs == forward
    if name in DIFFERENTIATED:
        with OpCounter(dry_run=True, strict=True) as counter:
            gradients(program)
        assert counter.macs == forward + backward
    else:
        with pytest.raises(DryRunError, match="gradients of a higher-order operator"), OpCounter(dry_run=True):
            sum(out.sum() for out in tree_leaves(program(torch.ones(3, 4, requires_grad=True)))).backward()


@pytest.mark.parametrize("at", ["outside", "inside"])
def test_a_dry_run_refuses_a_backward_through_a_branch_that_closes_over_what_requires_gradients(at):
    weight = torch.ones(4, 4, requires_grad=True)

    def inner(x):
        return torch.cond(YES, lambda a, w: (a @ w,), lambda a, w: (a * 2,), (x, weight if at == "inside" else W))

    def outer(x):
        return (x @ weight,) if at == "outside" else inner(x)

    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        cond(torch.ones(3, 4, requires_grad=True), true=outer, false=lambda a: (a * 2,))[0].sum().backward()


def test_a_dry_run_counts_a_forward_whose_parameters_require_gradients():
    with OpCounter(dry_run=True, strict=True) as counter:
        Branches()(torch.ones(3, 4))
    assert counter.macs == ONCE
