"""Operators told of as they were called, with what runs inside in one sum."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter
from opcount.interceptor import whole_calls
from tests.features import sees_kept_apply

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


def told(function, *inputs, model=None, parts_of=(), functions=(), with_autograd=False):
    calls = []
    model = nn.Module() if model is None else model
    with whole_calls(model, calls.append, parts_of, functions, with_autograd=with_autograd):
        function(*inputs)
    return calls


def names(calls):
    return [call.operator.split(".")[1] for call in calls]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("function", "shapes", "operator", "macs"),
    [
        (F.linear, [(2, 5, 3), (4, 3), (4,)], "linear", 2 * 5 * 3 * 4),
        (torch.matmul, [(2, 5, 3), (3, 4)], "matmul", 2 * 5 * 3 * 4),
        (lambda x, y: torch.einsum("bij,jk->bik", x, y), [(2, 5, 3), (3, 4)], "einsum", 2 * 5 * 3 * 4),
        (lambda x: F.scaled_dot_product_attention(x, x, x), [(1, 2, 3, 4)], "scaled_dot_product_attention", 144),
        (lambda x: F.layer_norm(x, (3,)), [(2, 3)], "layer_norm", 0),
    ],
)
def test_a_composite_operator_is_told_of_once_with_all_its_work(mode, function, shapes, operator, macs):
    with mode():
        (call,) = told(function, *map(torch.ones, shapes))
    assert (call.operator.split(".")[1], call.macs) == (operator, macs)
    assert call.priced


def test_an_operator_may_be_told_of_by_its_parts():
    x, weight = torch.ones(1, 3, 4, 4), torch.ones(2, 3, 1, 1)
    assert names(told(F.conv2d, x, weight)) == ["conv2d"]
    (call,) = told(F.conv2d, x, weight, parts_of=["aten.conv2d"])
    assert (call.operator, call.macs, call.activations) == ("aten.convolution.default", 96, 32)


def test_autograd_takes_operators_apart_where_it_is_let():
    w = torch.ones(3, 3, requires_grad=True)

    def differentiate():
        torch.autograd.grad(F.linear(torch.ones(2, 3), w, torch.ones(3)).sum(), w)

    with pytest.raises(RuntimeError, match="does not require grad"):
        told(differentiate)
    assert "addmm" in names(told(differentiate, with_autograd=True))


def test_what_returns_no_tensor_is_not_told_of():
    assert names(told(lambda x: (x.sum().item(), torch.equal(x, x)), torch.ones(3))) == ["sum"]


def test_calls_bear_the_modules_that_were_running():
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU()))
    calls = told(model, torch.ones(1, 3), model=model)
    assert [(call.stack, call.operator) for call in calls] == [
        (("", "0"), "aten.linear.default"),
        (("", "1", "1.0"), "aten.relu.default"),
    ]


def test_work_on_another_thread_is_told_of():
    model = nn.Linear(3, 3)

    def run():
        thread = threading.Thread(target=model, args=(torch.ones(1, 3),))
        thread.start()
        thread.join()

    assert sum(call.macs for call in told(run, model=model)) == 9


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x @ x

    @staticmethod
    def backward(ctx, grad):
        return grad


def square(x):
    """Look ``apply`` up when it is called."""
    return Square.apply(x)


def test_a_function_that_is_asked_for_is_told_of_as_one():
    x = torch.ones(3, 3)
    assert names(told(square, x)) == ["matmul"]
    assert names(told(square, x, functions=["Other"])) == ["matmul"]
    (call,) = told(square, x, functions=["Square"])
    assert (call.operator, call.macs, call.args[0] is x) == ("autograd.Square", 27, True)


def test_a_function_is_put_back_as_it_was():
    owners = torch.autograd.Function.__mro__
    before = [vars(owner).get("apply") for owner in owners]
    told(square, torch.ones(3, 3), functions=["Square"])
    assert [vars(owner).get("apply") for owner in owners] == before


@sees_kept_apply
def test_a_function_that_was_kept_under_a_name_is_told_of_too():
    (call,) = told(Square.apply, torch.ones(3, 3), functions=["Square"])
    assert call.operator == "autograd.Square"


def test_functions_on_other_threads_and_of_other_programs_run_as_ever():
    results = []
    with whole_calls(nn.Module(), [].append, (), ["Square"]):
        thread = threading.Thread(target=lambda: results.append(Square.apply(torch.eye(3) * 2)))
        thread.start()
        thread.join()
    assert torch.equal(results[0], torch.eye(3) * 4)
    leaf = torch.eye(3, requires_grad=True)
    Square.apply(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones(3, 3))


def test_what_an_opened_operator_does_inside_is_in_its_sum():
    with torch.library._scoped_library("opcount_whole_test", "DEF") as library:
        library.define("square(Tensor x) -> Tensor")
        library.impl("square", lambda x: x @ x, "CompositeExplicitAutograd")
        (call,) = told(torch.ops.opcount_whole_test.square, torch.ones(3, 3))
    assert (call.operator, call.macs, call.priced) == ("opcount_whole_test.square.default", 27, True)


def test_an_operator_that_fails_leaves_nothing_in_the_sum_of_the_next():
    def half(x):
        x @ x
        raise KeyError("on purpose")

    def forward(x):
        with pytest.raises(KeyError, match="on purpose"):
            torch.ops.opcount_whole_test.half(x)
        return x.relu()

    with torch.library._scoped_library("opcount_whole_test", "DEF") as library:
        library.define("half(Tensor x) -> Tensor")
        library.impl("half", half, "CompositeExplicitAutograd")
        (call,) = told(forward, torch.ones(3, 3))
    assert (call.operator, call.macs) == ("aten.relu.default", 0)


def test_an_outer_counter_counts_on():
    x = torch.ones(3, 3)
    with OpCounter() as counter:
        calls = told(lambda: x @ x)
    assert counter.macs == sum(call.macs for call in calls) == 27


@pytest.mark.parametrize("mode", MODES)
def test_what_runs_computes_the_same_bits(mode):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(2), nn.Linear(16, 4), nn.MultiheadAttention(4, 2)
    )
    x = torch.randn(2, 3, 6, 6)
    results = []

    def run(x):
        x = model[:4](x)
        results.append(model[4](x, x, x)[0])

    with mode():
        told(run, x, model=model.eval(), parts_of=["aten.conv2d"])
        run(x)
    assert torch.equal(*results)


def refusing(name):
    """Make a function by a library's name, whose formula asks for a whole number as the third argument."""
    forward = staticmethod(lambda _ctx, x, _boxes, _pool: torch.relu(x + 1))
    return type(name, (torch.autograd.Function,), {"forward": forward})


def test_what_runs_in_a_function_whose_formula_refuses_the_call_is_told_of():
    x = torch.ones(2, 3)
    assert names(told(refusing("BorderAlignFunction").apply, x, x, 0.5)) == ["add", "relu"]


@sees_kept_apply
def test_a_function_whose_formula_accepts_the_call_is_told_of_alone():
    x, boxes = torch.ones(1, 8, 3, 4), torch.ones(1, 12, 4)
    assert names(told(refusing("BorderAlignFunction").apply, x, boxes, 10)) == ["BorderAlignFunction"]
