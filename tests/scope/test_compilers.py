"""Compilers, tracers and modes that meet a counter: what they run is counted, and they work as before."""

from __future__ import annotations

import warnings
from inspect import signature

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from opcount import OpCounter
from tests.scope.ledger import BATCH, OWN, A, B, Block, ledger

FORWARD = {("a", "forward"): A, ("b", "forward"): B, ("", "forward"): OWN}


def data():
    return torch.randn(BATCH, 2)


@pytest.fixture
def graphs():
    """Return a backend of `torch.compile`, and the list of the graphs that it got."""
    found = []

    def backend(graph, _inputs):
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    yield backend, found
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:torch.compile with fullgraph=True found no")  # 2.12 does not ask for the stance
def test_a_function_that_is_first_called_inside_compiles_afterwards(graphs):
    backend, found = graphs
    function = torch.compile(lambda t: (t @ t.t()).tanh(), backend=backend, fullgraph=True)
    with OpCounter() as c:
        function(data())
    assert (c.macs, len(found)) == (BATCH * BATCH * 2, 0)
    function(data())
    assert len(found) == 1


def test_a_compiled_function_is_neither_poisoned_nor_compiled_again(graphs):
    backend, found = graphs
    model = torch.compile(Block(), backend=backend)
    model(data())
    compiled = len(found)
    with OpCounter(model) as c:
        model(data())
    assert ledger(c) == FORWARD
    model(data())
    assert len(found) == compiled


def test_dynamo_does_not_warn_of_our_hooks(graphs):
    backend, _ = graphs
    model = torch.compile(Block(), backend=backend)
    filters = list(warnings.filters)
    with OpCounter(model):
        model(data())
    assert warnings.filters == filters


_COMPILED_FIRST_INSIDE = """
import torch
from opcount import OpCounter
model = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False))
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
with OpCounter(model) as c:
    f = torch.compile(model, backend=backend)
    f(torch.ones(5, 2))
assert c.by_module()["0"].macs == c.macs == 30, c
assert not graphs
f(torch.ones(5, 2))
assert len(graphs) == 1, graphs
"""


def test_a_model_compiled_inside_by_the_first_use_of_dynamo_is_counted_by_module_and_compiles_afterwards(forked):
    done = forked(_COMPILED_FIRST_INSIDE)
    assert done.returncode == 0, done.stderr


_DYNAMO_FIRST_INSIDE = """
import sys, torch
from opcount import OpCounter
layer = torch.nn.Linear(2, 3, bias=False)
with OpCounter(layer) as c:
    layer(torch.ones(5, 2)).sum().backward()
print(c)
assert "torch._dynamo" not in sys.modules
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
with OpCounter() as c:
    f = torch.compile(lambda t: t @ t, backend=backend, fullgraph=True)
    f(torch.ones(4, 4))
assert c.macs == 64, c.macs
f(torch.ones(4, 4))
f(torch.ones(4, 4))
assert len(graphs) == 1, graphs
"""


def test_dynamo_is_never_imported_by_us_and_may_be_imported_inside(forked):
    done = forked(_DYNAMO_FIRST_INSIDE)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_tracing_runs_the_model_and_is_counted():
    block = Block()
    example = data()
    with OpCounter(block) as c:
        torch.jit.trace(block, example, check_trace=False)
    assert ledger(c) == FORWARD
    with OpCounter(block) as c:
        graph = make_fx(block)(example)
    assert c.macs == A + B + OWN
    assert torch.equal(graph(example), block(example))


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "RAdam"])
def test_a_step_is_counted_after_something_was_compiled(kind, scheduled):
    block = Block()
    optimizer = getattr(torch.optim, kind)(block.parameters(), lr=0.1)
    if scheduled:
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append("step"))
    stepped = []
    for compiles in (False, True):
        optimizer.state.clear()
        block(data()).sum().backward()
        with OpCounter(block) as c:
            if compiles:
                torch.compile(lambda a: a + 1, backend="eager")(data())
            optimizer.step()
        stepped.append(c.by_phase()["optimizer"])
    assert stepped[0] == stepped[1]
    assert stepped[0].arith
    assert len(seen) <= 2


@pytest.mark.parametrize("strict", [False, True])
def test_export_inside_the_block_still_exports(strict):
    options = {"strict": strict} if "strict" in signature(torch.export.export).parameters else {}
    torch.export.export(Block(), (data(),), **options)  # which loads dynamo
    block = Block()
    example = data()
    with OpCounter(block):
        exported = torch.export.export(block, (example,), **options)
    with OpCounter() as c:
        out = exported.module()(example)
    assert c.macs == A + B + OWN
    assert torch.allclose(out, block(example))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_grad_modes_count_the_same(mode):
    with OpCounter(block := Block()) as c, mode():
        block(data())
    assert ledger(c) == FORWARD


def test_autocast_counts_in_the_dtype_that_computes():
    layer = nn.Linear(2, 3, bias=False)
    with OpCounter(layer) as c, torch.autocast("cpu", torch.bfloat16):
        layer(data()).float().sum().backward()
    assert {dtype: total.macs for dtype, total in c.by_dtype().items() if total.macs} == {"bfloat16": 2 * A}
    assert ledger(c) == {("", "forward"): A, ("", "backward"): A}


def test_maps_count_what_the_batched_operators_compute():
    layer = nn.Linear(2, 3, bias=False)
    with OpCounter(layer) as c:
        torch.func.vmap(layer)(torch.randn(4, BATCH, 2))
    assert ledger(c) == {("", "forward"): 4 * A}


def test_an_optimizer_that_loads_dynamo_inside_a_block_adds_nothing_to_the_count(forked):
    program = """
import torch
from opcount import OpCounter

weight = torch.ones(3, requires_grad=True)
with OpCounter(convention="full") as c:
    torch.optim.AdamW([weight])
    (weight * 2).sum().backward()
print(sorted(name for name, total in c.by_operator().items() if total.flops))
"""
    done = forked(program)
    assert done.stdout == "['aten.mul.Tensor', 'aten.sum.default']\n", done.stderr
