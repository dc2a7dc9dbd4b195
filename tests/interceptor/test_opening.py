"""Operators that nobody registered are priced by what they run inside, and run once."""

# ruff: noqa: PLC0415  (tracing takes a second to import)

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from opcount import OpCounter
from opcount.errors import UncountedOperatorError
from opcount.interceptor.opening import open_up
from tests.features import custom_op, needs

W = torch.arange(16.0).reshape(4, 4)
RUNS = []


@custom_op("opening::product", mutates_args=())
def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    RUNS.append(1)
    return x @ w


product.register_fake(lambda x, w: x.new_empty(x.shape[0], w.shape[1]))
product.register_autograd(
    lambda ctx, grad: (grad @ ctx.saved_tensors[1].T, ctx.saved_tensors[0].T @ grad),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@custom_op("opening::add_square", mutates_args=("total",))
def add_square(x: torch.Tensor, total: torch.Tensor) -> None:
    total.add_(x @ x)


@custom_op("opening::outer", mutates_args=())
def outer(x: torch.Tensor) -> torch.Tensor:
    return torch.ops.opening.product(x, x) + torch.ops.opening.opaque(x)


LIBRARY = torch.library.Library("opening", "FRAGMENT")
KERNELS = {
    "explicit(Tensor x, Tensor w) -> Tensor": (torch.matmul, "CompositeExplicitAutograd"),
    "backend(Tensor x, Tensor w) -> Tensor": (torch.matmul, "CPU"),
    "implicit(Tensor x, Tensor w) -> Tensor": (torch.matmul, "CompositeImplicitAutograd"),
    "of_list(Tensor[] xs) -> Tensor": (lambda xs: xs[0] @ xs[1], "CompositeExplicitAutograd"),
    "made(int n) -> Tensor": (lambda n: torch.ones(n, n) @ torch.ones(n, n), "CompositeExplicitAutograd"),
    "opaque(Tensor x) -> Tensor": (lambda x: torch.from_numpy(x.numpy() * 2), "CPU"),
    "scaled(Tensor x, Tensor by) -> Tensor": (lambda x, by: x * by, "CompositeExplicitAutograd"),
}
for schema, (kernel, key) in KERNELS.items():
    LIBRARY.define(schema)
    LIBRARY.impl(schema.partition("(")[0], kernel, key)
OPS = torch.ops.opening


def counted(function):
    with OpCounter(strict=True) as counter:
        out = function()
    return out, counter


def without_warnings(function):
    with pytest.warns(match="no formula"), OpCounter() as counter:
        out = function()
    return out, counter


@needs("torch._ops.OpOverload.redispatch")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", ["product", "explicit", "backend", "implicit"])
def test_a_custom_operator_costs_what_it_runs(name, mode):
    with mode():
        out, counter = counted(lambda: getattr(OPS, name)(W, W))
    assert counter.macs == 4 * 4 * 4
    assert torch.equal(out, W @ W)


def test_a_kernel_runs_once():
    RUNS.clear()
    counted(lambda: product(W, W))
    assert len(RUNS) == 1


def test_backward_of_a_custom_operator_is_counted_and_unchanged():
    def gradients():
        x, w = torch.ones(3, 4, requires_grad=True), W.clone().requires_grad_()
        product(x, w).sum().backward()
        return x.grad, w.grad

    expected = gradients()
    found, counter = counted(gradients)
    assert all(map(torch.equal, found, expected))
    # x @ w, then grad @ w.T and x.T @ grad
    assert {phase: total.macs for phase, total in counter.by_phase().items()} == {"forward": 48, "backward": 2 * 48}


@needs("torch._ops.OpOverload.redispatch")
@pytest.mark.filterwarnings("ignore:opening..backend")
def test_an_operator_whose_parts_autograd_sees_keeps_its_gradient():
    x = W.clone().requires_grad_()
    expected = torch.autograd.grad(OPS.backend(x, W).sum(), x)[0]
    found, _ = counted(lambda: torch.autograd.grad(OPS.backend(x, W).sum(), x)[0])
    assert torch.equal(found, expected)


def test_a_mutating_operator_writes_its_argument_once():
    bare, seen = torch.ones(4, 4), torch.ones(4, 4)
    add_square(W, bare)
    _, counter = counted(lambda: add_square(W, seen))
    assert counter.macs == 64
    assert torch.equal(seen, bare)
    assert seen._version == bare._version


@needs("torch._ops.OpOverload.redispatch")
@pytest.mark.parametrize(
    "tensors",
    [
        lambda: (W.to(torch.complex64).conj(), W.to(torch.complex64)),
        lambda: ((W * 1j).conj().imag, W),
        lambda: (torch._efficientzerotensor((4, 4)), W),
        lambda: (W.to_sparse(), W),
        lambda: (W.to_sparse_csr(), W),
    ],
    ids=["conjugate", "negative", "zero", "sparse", "compressed"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_of_every_kind_reach_the_kernel_that_they_reach_bare(tensors):
    expected = OPS.explicit(*tensors())
    found, counter = counted(lambda: OPS.explicit(*tensors()))
    assert torch.equal(found, expected)
    assert "aten.mm.default" in counter.by_operator()


@needs("torch._ops.OpOverload.redispatch")
@pytest.mark.parametrize("name", ["product", "explicit", "backend"])
def test_autocast_reaches_into_a_custom_operator(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = getattr(OPS, name)(W, W)
        found, _ = counted(lambda: getattr(OPS, name)(W, W))
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(found, expected)


@needs("torch._ops.OpOverload.redispatch")
def test_a_kernel_of_pytorchs_that_is_opened_finds_views_as_untracked_as_it_does_bare(monkeypatch):
    from opcount.interceptor import planner  # how ``matmul`` computes depends on them

    monkeypatch.setattr(planner, "handler_of", lambda name: open_up if "_native_multi_head" in name else None)
    model = torch.nn.MultiheadAttention(4, 2, batch_first=True).eval()
    for _ in range(10):
        x = torch.randn(3, 4, 4).transpose(1, 2)
        for grad_mode in (torch.no_grad, torch.inference_mode):
            with grad_mode():
                bare = model(x, x, x)
                torch.testing.assert_close(counted(lambda x=x: model(x, x, x))[0], bare, rtol=0, atol=0)


@needs("torch._ops.OpOverload.redispatch")
def test_operators_on_lists_and_on_no_tensor_are_opened():
    assert counted(lambda: OPS.of_list([W, W]))[1].macs == 64
    assert counted(lambda: OPS.made(4))[1].macs == 64


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_custom_operator_under_vmap_is_counted_for_each_member():
    _, counter = counted(lambda: torch.vmap(lambda x: product(x, W))(torch.ones(3, 4, 4)))
    assert counter.macs == 3 * 64


def test_a_number_in_place_of_a_tensor_is_refused_as_it_is_bare():
    for call in (lambda: OPS.scaled(W, 2.0), lambda: counted(lambda: OPS.scaled(W, 2.0))):
        with pytest.raises(RuntimeError, match="Expected a value of type 'Tensor'"):
            call()


def test_an_opaque_operator_is_named_also_inside_another():
    out, counter = without_warnings(lambda: outer(W))
    assert torch.equal(out, W @ W + 2 * W)
    assert counter.macs == 64
    assert set(counter.coverage.uncounted) == {"opening.opaque.default"}
    assert counter.coverage.verdict() == (
        "1 operator has no formula, so the total is a lower bound: opening.opaque.default (1 call)"
    )
    # opaque writes 4 x 4 floats, and so do the product and the sum
    assert counter.coverage.bytes_share == pytest.approx(2 / 3)


@pytest.mark.parametrize("make", [lambda: (W.to("meta"), W.to("meta")), None], ids=["meta", "fake"])
def test_a_shape_function_is_not_mistaken_for_the_kernel(make):
    if make is None:
        with FakeTensorMode():
            _, counter = without_warnings(lambda: product(torch.empty(4, 4), torch.empty(4, 4)))
    else:
        _, counter = without_warnings(lambda: product(*make()))
    assert set(counter.coverage.uncounted) == {"opening.product.default"}


def test_a_mode_below_the_counter_still_sees_the_operator_itself():
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda x: product(x, x))(W)
    with pytest.warns(match="no formula"):
        traced = make_fx(counted_product)(W)
    assert [node.target for node in traced.graph.nodes] == [node.target for node in graph.graph.nodes]


def counted_product(x):
    with OpCounter():
        return product(x, x)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_an_opened_operator_leaves_no_trace(error):
    @custom_op(f"opening::fails_with_{error.__name__}", mutates_args=())
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise error("inside")

    with OpCounter() as counter:
        with pytest.raises(error, match="inside"):
            fails(W)
        out = W @ W
    assert counter.macs == 64
    assert torch.equal(out, W @ W)


def test_strict_names_every_operator_and_never_hides_an_error_of_the_block():
    with pytest.raises(UncountedOperatorError, match=r"opening\.opaque\.default \(2 calls\)"), OpCounter(strict=True):
        OPS.opaque(OPS.opaque(W))
    with pytest.raises(ZeroDivisionError), OpCounter(strict=True):
        OPS.opaque(W) / (1 // 0)


def written(out):
    """Do as a compiled kernel does: write into memory, past every dispatcher."""
    out.numpy()[...] = 3
    return out


OPAQUE = {
    "returned(Tensor x) -> Tensor": lambda x: (x.sum(), written(torch.empty_like(x)))[1],
    "zeros(Tensor x) -> Tensor": lambda x: (x.sum(), written(x.new_zeros(4)))[1],
    "array(Tensor x) -> Tensor": lambda x: torch.from_numpy(x.numpy() * 2) + x.sum(),
    "one_of_two(Tensor x) -> (Tensor, Tensor)": lambda x: (x * 2, written(torch.empty_like(x))),
    "in_a_list(Tensor x) -> Tensor[]": lambda x: [x * 2, written(torch.empty_like(x))],
    "in_place(Tensor(a!) x) -> ()": lambda x: (x.sum(), written(x), None)[2],
}
SEEN = {
    "two(Tensor x) -> (Tensor, Tensor)": lambda x: (x * 2, x),
    "mutated(Tensor(a!) x) -> ()": lambda x: (x.mul_(2), None)[1],
    "not_mutated(Tensor(a!) x) -> Tensor": lambda x: x * 2,
    "masked(Tensor x) -> Tensor": lambda x: x[x > 3] * 2,
    "no_work(Tensor x) -> (Tensor, Tensor)": lambda x: (x * 2, torch.zeros(3)),
}
for schema, kernel in {**OPAQUE, **SEEN}.items():
    LIBRARY.define(schema)
    LIBRARY.impl(schema.partition("(")[0], kernel, "CPU")


@pytest.mark.parametrize("schema", OPAQUE)
def test_an_operator_whose_result_nothing_inside_made_is_named_although_a_helper_is_priced(schema):
    name = schema.partition("(")[0]
    _, counter = without_warnings(lambda: getattr(OPS, name)(W.clone()))
    assert set(counter.coverage.uncounted) == {f"opening.{name}.default"}
    with pytest.warns(match="no formula"), OpCounter() as outer, OpCounter() as inner:
        getattr(OPS, name)(W.clone())
    assert set(outer.coverage.uncounted) == set(inner.coverage.uncounted) == {f"opening.{name}.default"}


@needs("torch._ops.OpOverload.redispatch")
@pytest.mark.parametrize("schema", SEEN)
def test_an_operator_whose_results_were_made_inside_is_not_named(schema):
    counted(lambda: getattr(OPS, schema.partition("(")[0])(W.clone()))
