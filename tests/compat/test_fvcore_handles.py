"""Handles of the drop-in for fvcore.nn: functions that price an operator, or an ``autograd.Function``, by its call."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.compat.fvcore import ActivationCountAnalysis, FlopCountAnalysis, JitModelAnalysis
from tests.compat.test_fvcore import IMAGE, Small
from tests.modules import Calls


def test_handles_of_composite_operators_get_what_the_function_was_called_with():
    seen = {}

    def note(name):
        def handle(inputs, outputs):
            seen[name] = [v.type().sizes() for v in inputs], [v.type().sizes() for v in outputs]
            return 1

        return handle

    def forward(model, x):
        return torch.einsum("ij,kj->ik", torch.matmul(model.fc(x), x.T), x.T)

    names = ["aten::linear", "aten::matmul", "aten::einsum"]
    model = Calls(forward, fc=nn.Linear(3, 3))
    analysis = JitModelAnalysis(model, torch.ones(2, 3)).set_op_handle(**{name: note(name) for name in names})
    assert analysis.by_operator() == {"linear": 1, "matmul": 1, "einsum": 1}
    assert seen["aten::linear"] == ([[2, 3], [3, 3], [3]], [[2, 3]])
    assert seen["aten::matmul"] == ([[2, 3], [3, 2]], [[2, 2]])
    assert seen["aten::einsum"] == ([None, None, None], [[2, 3]])


def test_a_handle_of_a_convolution_gets_thirteen_inputs():
    def handle(inputs, outputs):
        assert len(inputs) == 13
        assert inputs[6].toIValue() is False
        assert [v.toIValue() for v in inputs[3].node().inputs()] == [1, 1]
        return Counter(multiply=10, add=2.5)

    flops = FlopCountAnalysis(Small(), IMAGE).set_op_handle("aten::_convolution", handle)
    assert flops.by_operator() == {"linear": 10000, "multiply": 10, "add": 2.5}
    assert flops.total() == 10012.5


def test_a_handle_of_none_ignores_an_operator_as_fvcores_documentation_has_it():
    flops = FlopCountAnalysis(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.SiLU()), IMAGE)
    assert flops.set_op_handle("aten::batch_norm", None).by_operator() == {"conv": 1200}
    assert flops.unsupported_ops() == {"aten::add_": 1, "aten::silu": 1}
    assert flops.set_op_handle(**{"aten::silu": None}).total() == 1200
    assert flops.unsupported_ops() == {"aten::add_": 1}
    assert flops.set_op_handle("aten::batch_norm", lambda i, o: 5).by_operator() == {"conv": 1200, "batch_norm": 5}


def test_clearing_handles_leaves_nothing_counted():
    flops = FlopCountAnalysis(Small(), IMAGE).clear_op_handles()
    assert flops.by_module() == {"": 0, "conv": 0, "fc": 0, "act": 0}
    assert flops.unsupported_ops() == {"aten::_convolution": 1, "aten::linear": 1}
    assert flops.set_op_handle("aten::linear", lambda i, o: 3).by_operator() == {"linear": 3}


@pytest.mark.parametrize("result", ["3", None, Counter(a="3"), 1j, torch.tensor(3)])
def test_a_handle_that_returns_no_number_is_a_value_error(result):
    flops = FlopCountAnalysis(Small(), IMAGE).set_op_handle("aten::linear", lambda i, o: result)
    with pytest.raises(ValueError, match=r"expected the handle of 'aten::linear' to return a number or a Counter"):
        flops.total()


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, times):
        return Twice.apply(x @ x) * times

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x @ x

    @staticmethod
    def backward(ctx, grad):
        return grad


kept, is_python = Scan.apply, hasattr(vars(torch.autograd.Function)["apply"], "__func__")


def scan(x, times):
    """Call ``apply`` by a name that was kept; from PyTorch 2.15 on, where it is C++, nobody sees such a call."""
    return (kept if is_python else Scan.apply)(x, times)


def test_an_autograd_function_with_a_handle_is_one_operator():
    model = Calls(lambda m, x: scan(m.fc(x), 3), fc=nn.Linear(3, 3))

    def handle(inputs, outputs):
        assert [v.type().sizes() for v in inputs] == [v.type().sizes() for v in outputs] == [[3, 3]]
        return 1000

    flops = FlopCountAnalysis(model, torch.ones(3, 3))
    assert flops.by_operator() == {"linear": 27, "matmul": 54}
    flops.set_op_handle("prim::PythonOp.Scan", handle)
    assert flops.by_operator() == {"linear": 27, "PythonOp.Scan": 1000}
    assert flops.unsupported_ops() == {}
    assert flops.set_op_handle("prim::PythonOp.Scan", None).by_operator() == {"linear": 27}
    assert "apply" not in vars(torch.autograd.function._SingleLevelFunction)
    both = {"prim::PythonOp.Scan": handle, "prim::PythonOp.Twice": lambda i, o: 7}
    assert flops.set_op_handle(**both).by_operator() == {"linear": 27, "PythonOp.Scan": 1000}
    del both["prim::PythonOp.Scan"]
    assert FlopCountAnalysis(model, torch.ones(3, 3)).set_op_handle(**both).by_operator() == {
        "linear": 27,
        "matmul": 27,
        "PythonOp.Twice": 7,
    }


def by_numpy(name):
    """Return a function that multiplies past the dispatcher."""

    def forward(_ctx, x, *_rest):
        out = x.new_empty(x.shape)
        out.numpy()[...] = x.detach().numpy() @ x.detach().numpy()
        return out

    return type(name, (torch.autograd.Function,), {"forward": staticmethod(forward)})


def test_a_function_whose_kernel_nobody_sees_is_unsupported_by_its_name():
    opaque = by_numpy("Opaque")
    model = Calls(lambda m, x: m.fc(opaque.apply(m.fc(x))), fc=nn.Linear(3, 3))
    for kind in (FlopCountAnalysis, ActivationCountAnalysis):
        analysis = kind(model, torch.ones(3, 3))
        assert analysis.by_operator() == {"linear": 2 * (27 if kind is FlopCountAnalysis else 9)}
        assert analysis.unsupported_ops()["prim::PythonOp.Opaque"] == 1


def test_a_function_that_has_a_formula_is_counted_by_it():
    kernel = by_numpy("MultiScaleDeformableAttnFunction")
    b, s, h, d, q, levels, points = 1, 20, 2, 8, 5, 1, 4
    value = torch.rand(b, s, h, d)
    shapes, start = torch.tensor([[4, 5]]), torch.tensor([0])
    places, weights = torch.rand(b, q, h, levels, points, 2), torch.rand(b, q, h, levels, points)

    def forward(_ctx, value, *_rest):
        return value.new_empty(b, q, h * d)

    kernel.forward = staticmethod(forward)
    model = Calls(lambda _, x: kernel.apply(x, shapes, start, places, weights, 64))
    with OpCounter() as counter, torch.no_grad():
        model(value)
    flops = FlopCountAnalysis(model, value)
    assert flops.total() == counter.flops == b * q * h * d * levels * points
    assert flops.by_operator() == {"PythonOp.MultiScaleDeformableAttnFunction": counter.flops}
    assert "prim::PythonOp.MultiScaleDeformableAttnFunction" not in flops.unsupported_ops()


def test_native_code_outside_of_a_function_is_unsupported_where_its_result_is_read():
    def forward(m, x):
        out = torch.empty(3, 3)
        out.numpy()[...] = x.detach().numpy() @ x.detach().numpy()
        return m.fc(out)

    flops = FlopCountAnalysis(Calls(forward, fc=nn.Linear(3, 3)), torch.ones(3, 3))
    assert flops.total() == 27
    assert flops.unsupported_ops()["aten::linear"] == 1


def test_a_function_that_fails_leaves_no_trace():
    def fail(_ctx, _x):
        raise KeyError("on purpose")

    failing = type("Failing", (torch.autograd.Function,), {"forward": staticmethod(fail)})
    flops = FlopCountAnalysis(Calls(lambda _, x: failing.apply(x)), torch.ones(1))
    with pytest.raises(KeyError, match="on purpose"):
        flops.set_op_handle("prim::PythonOp.Failing", lambda i, o: 1).total()
    assert "apply" not in vars(torch.autograd.function._SingleLevelFunction)
