"""TorchScript's tracer under a counter: it records what it records without, and what runs is counted once."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from threading import Thread

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter, Profile

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.trace")

CONVOLUTIONS = {
    "one dimension": (lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 4, 9)),
    "two, without bias": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), (2, 3, 9, 7)),
    "three": (lambda: nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1, stride=2), (1, 3, 5, 5)),
    "same padding": (lambda: nn.Conv2d(3, 3, (5, 3), padding="same"), (1, 3, 5, 5)),
}


class Around(nn.Module):
    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(4) if isinstance(convolution, nn.ConvTranspose2d) else nn.Identity()

    def forward(self, x):
        return self.norm(self.convolution(x)).relu() + x.mean()


class Empty(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@contextmanager
def below(mode):
    with OpCounter() as counter, mode:
        yield counter


WAYS = {
    "a counter": lambda model: OpCounter(model, strict=True),
    "no model": lambda _: OpCounter(),
    "a dry run": lambda model: OpCounter(model, dry_run=True),
    "nested": lambda _: below(OpCounter()),
    "below another mode": lambda _: below(Empty()),
}


def graph(traced):
    """Return the operators of a graph, with the types of their results."""
    lines = [line.split(", scope")[0].split(" #")[0] for line in str(traced.inlined_graph).splitlines()]
    return [line.split(" : ")[1] for line in lines if "aten::" in line and " : " in line]


def operators(counter):
    return {name: (t.calls, t.macs, t.arith) for name, t in counter.by_operator().items() if t.macs or t.arith}


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_traced_convolution_is_recorded_and_counted(kind, way, gradients):
    make, size = CONVOLUTIONS[kind]
    model, x, other = Around(make()).eval(), torch.randn(size), torch.randn(size)
    with torch.set_grad_enabled(gradients):
        bare = torch.jit.trace(model, x)
        with OpCounter() as plain:
            model(x)
        with WAYS[way](model) as counter:
            traced = torch.jit.trace(model, x, check_trace=False)
    assert graph(traced) == graph(bare)
    torch.testing.assert_close(traced(other), model(other), rtol=0, atol=0)
    assert operators(counter) == operators(plain)
    assert all(type(record.cost.macs) is int for record in counter.profile.records)
    assert counter.profile.records == type(counter.profile).from_json(counter.profile.to_json()).records


class CountsInside(nn.Module):
    """Counts what it calls itself, while TorchScript traces: to the tracer, sizes are tensors."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        with OpCounter(self.inner) as self.counter:
            x = self.inner(x)
            self.read = self.counter.profile.to_json()
        return x


@pytest.mark.parametrize("outer", [False, True])
def test_a_counter_that_is_entered_while_tracing_counts_numbers(outer):
    model, x = CountsInside(), torch.randn(1, 3, 5, 5)
    if outer:
        with OpCounter(model) as around:
            traced = torch.jit.trace(model, x, check_trace=False)
        assert around.macs == model.counter.macs
    else:
        traced = torch.jit.trace(model, x, check_trace=False)
    assert model.counter.macs == 4 * 27 * 9
    assert [record.shapes for record in model.counter.profile.records if record.cost.macs] == [
        "(1x3x5x5, 4x3x3x3, 4) -> 1x4x3x3"
    ]
    other = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(traced(other), model.inner(other), rtol=0, atol=0)


@pytest.mark.parametrize("outer", [False, True])
def test_sizes_of_parameters_are_numbers_while_torchscript_traces(outer):
    model, x = CountsInside(), torch.ones(1, 3, 5, 5)
    bare = str(torch.jit.trace(nn.Sequential(model.inner), x, check_trace=False).inlined_graph)
    with OpCounter() if outer else nullcontext() as unknown:
        traced = torch.jit.trace(model, x, check_trace=False)
    assert Profile.from_json(model.read) == Profile.from_json(model.counter.profile.to_json())
    assert model.counter.profile.modules[""].weights == "weight=4x3x3x3 bias=4"
    assert str(traced.inlined_graph).count("aten::") == bare.count("aten::")
    if outer:  # the model was made elsewhere: its modules have names of their own
        facts = unknown.profile.modules["CountsInside.inner"]
        assert (facts.params, facts.weights) == (112, "weight=4x3x3x3 bias=4")
        assert Profile.from_json(unknown.profile.to_json()) == unknown.profile


@pytest.mark.parametrize("dry", [False, True])
def test_a_trace_on_another_thread_is_recorded_and_counted(dry):
    model, x, traced = Around(nn.Conv2d(3, 4, 3)).eval(), torch.randn(1, 3, 5, 5), []
    with OpCounter(model, dry_run=dry) as counter:
        thread = Thread(target=lambda: traced.append(torch.jit.trace(model, x, check_trace=False)))
        thread.start()
        thread.join()
    assert counter.macs == 4 * 27 * 9
    assert type(counter.macs) is int
    other = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(traced[0](other), model(other), rtol=0, atol=0)


def test_a_checked_trace_of_a_function_counts_a_convolution_as_often_as_a_product():
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 5, 5)
    with OpCounter() as counter:
        traced = torch.jit.trace(lambda x: functional.conv2d(x, weight) + (x[0, 0] @ x[0, 1]).sum(), x)
    calls = {name: total.calls for name, total in counter.by_operator().items()}
    times = calls["aten.mm.default"]
    assert calls["aten._convolution.default"]  # what the graph has, in the checks
    assert calls["aten.convolution.default"] + calls["aten._convolution.default"] == times
    assert counter.macs == times * (5 * 5 * 5 + 4 * 27 * 9)
    y = x + 1
    torch.testing.assert_close(traced(y), functional.conv2d(y, weight) + (y[0, 0] @ y[0, 1]).sum(), rtol=0, atol=0)


def test_the_operator_that_the_tracer_records_is_counted_as_itself_where_a_program_calls_it():
    arguments = [[1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, True, True]
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 5, 5)
    with OpCounter() as plain:
        torch.ops.aten._convolution(x, weight, None, *arguments)
    with OpCounter() as counter:
        torch.jit.trace(lambda x: torch.ops.aten._convolution(x, weight, None, *arguments), x, check_trace=False)
    assert operators(counter) == operators(plain)


def test_operators_that_are_not_recorded_are_counted_in_numbers():
    def compare(x):
        same = torch.equal(x, x.clone()) and torch.allclose(x, x.clone())
        return x @ x if same else x

    x = torch.ones(4, 4)
    with OpCounter() as counter:
        traced = torch.jit.trace(compare, x, check_trace=False)
    assert counter.macs == 4**3
    assert all(type(record.cost.arith) is type(record.bytes_read) is int for record in counter.profile.records)
    assert counter.by_operator()["aten.equal.default"].arith == 4**2
    assert "aten::matmul" in str(traced.graph)
    assert counter.profile.from_json(counter.profile.to_json()) == counter.profile


def test_an_error_in_a_trace_leaves_no_mode_behind():
    def wrong(x):
        return functional.conv2d(x, x.new_ones(4, 2, 3, 3))

    with OpCounter() as counter:
        with pytest.raises(RuntimeError, match="weight of size"):
            torch.jit.trace(wrong, torch.ones(1, 3, 5, 5))
        assert torch.nn.Linear(2, 2)(torch.ones(2, 2)).shape == (2, 2)
    assert counter.macs == 8
