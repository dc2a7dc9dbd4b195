"""Programs have functions of their own under the names of libraries; these are counted by their parts."""

from __future__ import annotations

import pytest
import torch

from opcount import OpCounter


def product(name, takes):
    """Make a function of that name which multiplies its first two arguments, and takes so many."""

    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad, *[None] * (takes - 2)

    one = lambda _ctx, x: x @ x.T
    three = lambda ctx, x, w, _more: forward(ctx, x, w)
    members = {"forward": staticmethod({1: one, 2: forward, 3: three}[takes])}
    return type(name, (torch.autograd.Function,), {**members, "backward": staticmethod(backward)})


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("KNN", 1),
        ("RoIAlignFunction", 2),
        ("SelectiveScan", 2),
        ("DeformConv2dFunction", 2),
        ("FlashAttnFunc", 2),
        ("MambaInnerFn", 3),
        ("Upfirdn2dCuda", 3),
        ("CAMapFunction", 3),
        ("CARAFEFunction", 3),
    ],
)
def test_a_function_that_takes_fewer_or_more_is_counted_by_its_parts(name, takes):
    x, w = torch.rand(4, 4, requires_grad=True), torch.rand(4, 4, requires_grad=True)
    function = product(name, takes)
    with OpCounter(strict=True) as counter:
        out = function.apply(*(x, w, 1)[:takes])
        if takes > 1:
            out.sum().backward()
    assert counter.macs == 4 * 4 * 4 * (3 if takes > 1 else 1)
    assert "aten.mm.default" in counter.by_operator()


def test_a_function_whose_context_is_set_up_apart_takes_no_context():
    class CAMapFunction(torch.autograd.Function):
        @staticmethod
        def forward(weight, g):
            return g + 1

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

    weight, g = torch.rand(1, 5, 3, 3), torch.rand(1, 2, 3, 3)
    with OpCounter(strict=True) as counter:
        CAMapFunction.apply(weight, g)
    assert counter.macs == g.numel() * 5


def border_align(name, forward):
    """Make a function whose formula asks for a whole number as the third argument."""
    backward = staticmethod(lambda _ctx, grad: (grad * 2, None, None))
    return type(name, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": backward})


@pytest.mark.parametrize("pool", [torch.ones(2, 2), 0.5, -7])
def test_a_function_whose_formula_refuses_a_call_is_counted_by_its_parts(pool):
    function = border_align("BorderAlignFunction", lambda _ctx, x, boxes, pool: x + 1)
    x = torch.rand(1, 2, 3, 4, requires_grad=True)
    with OpCounter(strict=True, convention="full") as counter, OpCounter(convention="full") as outer:
        function.apply(x, x, pool).backward(torch.ones(1, 2, 3, 4))
    assert {name: total.arith for name, total in counter.by_operator().items() if total.arith} == {
        "aten.add.Tensor": x.numel(),
        "aten.mul.Tensor": x.numel(),
    }
    assert outer.profile.total == counter.profile.total


def native(_ctx, x, boxes, pool):
    out = torch.empty_like(x)
    out.detach().numpy()[...] = x.detach().numpy() + 1
    return out


@pytest.mark.parametrize("pool", [torch.ones(2, 2), 0.5, -7])
def test_a_kernel_whose_formula_refuses_a_call_is_named(pool):
    function = border_align("BorderAlignFunction", native)
    x = torch.rand(1, 2, 3, 4)
    with pytest.warns(UserWarning, match="BorderAlignFunction"), OpCounter() as counter:
        function.apply(x, x, pool)
    assert set(counter.coverage.uncounted) == {"autograd.BorderAlignFunction"}
    assert (counter.macs, counter.profile.total.arith) == (0, 0)


def test_memory_that_a_priced_kernel_keeps_is_not_named():
    kept = []

    def forward(ctx, x, boxes, pool):
        kept.append(torch.empty_like(x))
        kept[-1].numpy()[...] = 1
        return native(ctx, x, boxes, pool)

    x = torch.rand(1, 8, 3, 4)
    boxes = torch.rand(1, 12, 4)
    with OpCounter(strict=True) as counter:
        border_align("BorderAlignFunction", forward).apply(x, boxes, 10)
        _ = kept[0] + 1
    assert set(counter.by_operator()) == {"autograd.BorderAlignFunction", "aten.add.Tensor"}
