"""A formula for an ``autograd.Function`` prices it whole, forward and backward."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from opcount import Cost, OpCounter
from opcount.errors import FormulaError


class Product(torch.autograd.Function):
    """One product and a helper, as torch operators."""

    @staticmethod
    def forward(x, w):
        return (x @ w) * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        needs_x, needs_w = ctx.needs_input_grad
        return grad @ w.T * 2 if needs_x else None, x.T @ grad * 2 if needs_w else None

    generate_vmap_rule = True


def seven(out, x, w):
    assert out.shape == (x.shape[0], w.shape[1])
    return Cost(macs=7, arith=1, activations=out.numel())


def run(x_grad=True, w_grad=True):
    x, w = torch.ones(2, 3, requires_grad=x_grad), torch.ones(3, 4, requires_grad=w_grad)
    out = Product.apply(x, w)
    if x_grad or w_grad:
        out.sum().backward()
    return x.grad, w.grad


def phases(counter):
    return {phase: total.macs for phase, total in counter.by_phase().items() if total.macs}


@pytest.mark.parametrize("target", [Product, "autograd.Product", "autograd::Product"])
def test_a_function_is_found_by_its_class_and_by_its_name(target):
    with OpCounter(formulas={target: seven}, strict=True) as counter:
        run()
    assert phases(counter) == {"forward": 7, "backward": 2 * 7}
    assert counter.activations == 2 * 4
    assert "aten.mm.default" not in counter.by_operator()
    assert counter.by_operator()["autograd.ProductBackward"].macs == 14


@pytest.mark.parametrize(("needed", "backward"), [((True, False), 7), ((False, True), 7), ((False, False), 0)])
def test_the_backward_costs_as_much_for_each_gradient(needed, backward):
    with OpCounter(formulas={Product: seven}) as counter:
        run(*needed)
    assert counter.macs == 7 + backward


def test_a_formula_for_the_backward_is_asked_at_the_forward():
    asked = []

    def backward(out, x, w):
        asked.append((x.requires_grad, w.requires_grad))
        return Cost(macs=100)

    x, w = torch.ones(2, 3, requires_grad=True), torch.ones(3, 4)
    with OpCounter(formulas={Product: seven, "autograd.ProductBackward": backward}) as counter:
        out = Product.apply(x, w)
        assert asked == [(True, False)]
        out.sum().backward()
    assert phases(counter) == {"forward": 7, "backward": 100}


def test_none_declares_a_function_free():
    with OpCounter(formulas={Product: None}, strict=True) as counter:
        run()
    assert counter.macs == 0
    assert {"autograd.Product", "autograd.ProductBackward"} <= set(counter.coverage.free)


def test_outputs_and_gradients_are_those_of_a_bare_run():
    expected = run()
    with OpCounter(formulas={Product: seven}):
        found = run()
    assert all(map(torch.equal, found, expected))


def test_a_counter_without_the_formula_around_one_with_it_counts_what_runs():
    with OpCounter() as outer, OpCounter(formulas={Product: seven}) as inner:
        run()
    assert inner.macs == 21
    assert outer.macs == 3 * 2 * 3 * 4
    with OpCounter(formulas={Product: seven}) as outer, OpCounter() as inner:
        run()
    assert (outer.macs, inner.macs) == (21, 72)


def test_two_passes_through_one_graph_cost_twice():
    with OpCounter(formulas={Product: seven}) as counter:
        out = Product.apply(torch.ones(2, 3, requires_grad=True), torch.ones(3, 4)).sum()
        out.backward(retain_graph=True)
        out.backward()
    assert phases(counter) == {"forward": 7, "backward": 14}


def test_a_backward_whose_forward_was_not_counted_costs_what_it_runs():
    x = torch.ones(2, 3, requires_grad=True)
    out = Product.apply(x, torch.ones(3, 4)).sum()
    with OpCounter(formulas={Product: seven}) as counter:
        out.backward()
    assert counter.macs == 2 * 3 * 4


def test_a_function_is_charged_to_the_module_that_applies_it():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, x):
            return Product.apply(x, self.weight)

    model = nn.Sequential(nn.Linear(3, 3), Layer())
    with OpCounter(model, formulas={Product: seven}) as counter:
        model(torch.ones(2, 3)).sum().backward()
    assert counter.by_module()["1"].macs == 21


def test_a_function_is_charged_on_the_thread_that_applies_it():
    class Layer(nn.Module):
        def forward(self, x):
            return Product.apply(x, torch.ones(3, 4))

    model = Layer()
    with OpCounter(model, formulas={Product: seven}) as counter:
        worker = threading.Thread(target=model, args=(torch.ones(2, 3),))
        worker.start()
        worker.join()
    assert counter.macs == 7


def test_nothing_is_charged_while_the_counter_is_paused():
    with OpCounter(formulas={Product: seven}) as counter:
        counter.pause()
        run()
        counter.resume()
    assert counter.macs == 0


@pytest.mark.parametrize("transform", ["grad", "vmap", "vmap of grad"])
def test_functions_keep_their_formula_under_functorch(transform):
    x, w = torch.ones(5, 2, 3), torch.ones(3, 4)

    def loss(x):
        return Product.apply(x, w).sum()

    grad = torch.func.grad(loss)
    call = {
        "grad": lambda: grad(x[0]),
        "vmap": lambda: torch.vmap(loss)(x),
        "vmap of grad": lambda: torch.vmap(grad)(x),
    }
    with OpCounter(formulas={Product: lambda out, x, w: Cost(macs=out.numel() * x.shape[-1])}) as counter:
        call[transform]()
    # forward 2 * 3 * 4, gradient of x the same, times 5
    assert counter.macs == {"grad": 48, "vmap": 120, "vmap of grad": 240}[transform]


def test_a_formula_that_fails_says_whose_it_is():
    failed = pytest.raises(FormulaError, match=r"autograd\.Product: its formula failed with ZeroDivisionError")
    with failed, OpCounter(formulas={Product: lambda *_: 1 / 0}):
        run()


def test_an_exception_in_a_function_leaves_the_counter_as_it_was():
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            raise KeyError("of the program")

    with OpCounter(formulas={Failing: seven}) as counter:
        with pytest.raises(KeyError, match="of the program"):
            Failing.apply(torch.ones(2, 3), torch.ones(3, 4))
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert counter.macs == 24


def test_what_a_formula_computes_is_charged_to_nobody():
    def by_values(out, x, w):
        return Cost(macs=int((x * 2).sum() * w.numel()))

    with OpCounter() as outer, OpCounter(formulas={Product: by_values}, strict=True) as inner:
        Product.apply(torch.ones(2, 3), torch.ones(3, 4))
    assert inner.macs == 2 * 6 * 12
    assert set(inner.by_operator()) == {"autograd.Product"}
    assert set(outer.by_operator()) == {"aten.mm.default", "aten.mul.Tensor"}
    assert outer.by_operator()["aten.mul.Tensor"].calls == 1


@pytest.mark.parametrize("target", ["autograd.ProductBackward", "autograd::ProductBackward"])
def test_a_formula_for_the_backward_alone_leaves_the_forward_counted_by_what_it_runs(target):
    with OpCounter(formulas={target: lambda out, x, w: Cost(macs=out.shape[-1] + 1)}, strict=True) as counter:
        run()
        run()
    assert phases(counter) == {"forward": 2 * 2 * 3 * 4, "backward": 2 * 5}
    with OpCounter(formulas={target: None}, strict=True) as counter:
        run()
    assert phases(counter) == {"forward": 2 * 3 * 4}
