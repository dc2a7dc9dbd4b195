"""Higher-order operators: what their bodies run is counted, and nothing else about them changes."""

# ruff: noqa: PLC0415  (each operator has a module of its own, slow to import)

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import Cost, OpCounter
from tests.features import custom_op, needs, require, runs_of_scan, tree_leaves

W = torch.arange(16.0).reshape(4, 4) / 16
X = torch.arange(12.0).reshape(3, 4)
ONCE = 3 * 4 * 4


def once(a):
    return a @ W


def twice(a):
    return a @ W @ W


def cond(predicate, operands=(X,)):
    return lambda: torch.cond(predicate(), once, twice, operands)


def inner_cond(a):
    return torch.cond(a.sum() < 0, once, twice, (a,))


def while_loop():
    from torch._higher_order_ops.while_loop import while_loop

    return while_loop(lambda i, _: i < 3, lambda i, a: (i + 1, a @ W), (torch.tensor(0), X))


def mapped():
    from torch._higher_order_ops.map import map as map_

    return map_(once, torch.ones(5, 3, 4))


def scan():
    from torch._higher_order_ops.scan import scan

    return scan(lambda carry, a: (carry @ W, carry + a), X, torch.ones(5, 3, 4))


def wrap():
    from torch._higher_order_ops.wrap import wrap

    return wrap(once, X)


def set_grad():
    from torch._higher_order_ops.wrap import wrap_with_set_grad_enabled

    return wrap_with_set_grad_enabled(False, once, X)


def hints():
    from torch._higher_order_ops.hints_wrap import hints_wrapper

    return hints_wrapper(once, (X,), {}, {"hint": 1})


def strict_mode():
    from torch._higher_order_ops.strict_mode import strict_mode

    return strict_mode(once, (X,))


def subgraph():
    require("operands of invoke_subgraph one by one")
    from torch._higher_order_ops.invoke_subgraph import invoke_subgraph

    return invoke_subgraph(torch.fx.symbolic_trace(lambda a: (a @ W,)), "body", X)


def with_rng_state():
    from torch._prims.rng_prims import run_with_rng_state

    return run_with_rng_state(torch.get_rng_state(), torch.ops.aten.mm.default, X, W)


def out_dtype():
    from torch._higher_order_ops.out_dtype import out_dtype

    small = torch.ones(4, 4, dtype=torch.int8)
    return out_dtype(torch.ops.aten.mm.default, torch.int32, small[:3], small)


def functionalized():
    from torch._higher_order_ops.auto_functionalize import auto_functionalized

    return auto_functionalized(torch.ops.higher_order_tests.add_product.default, x=X, total=torch.zeros(3, 4))


def flex():
    from torch.nn.attention.flex_attention import flex_attention

    q = torch.ones(1, 2, 16, 8)
    return flex_attention(q, q, q, score_mod=lambda score, *_: score * 2)


@custom_op("higher_order_tests::add_product", mutates_args=("total",))
def add_product(x: torch.Tensor, total: torch.Tensor) -> None:
    total.add_(x @ W)


BODIES = {
    "cond, a number decides": (cond(lambda: True), ONCE),
    "cond, a tensor decides for the smaller branch": (cond(lambda: X.sum() > 0), ONCE),
    "cond, a tensor decides for the larger branch": (cond(lambda: X.sum() < 0), 2 * ONCE),
    "cond in cond": (lambda: torch.cond(X.sum() > 0, inner_cond, once, (X,)), 2 * ONCE),
    "while_loop of three rounds": (while_loop, 3 * ONCE),
    "map over five": (mapped, 5 * ONCE),
    "scan over five": (scan, runs_of_scan(5) * ONCE),
    "wrap": (wrap, ONCE),
    "wrap_with_set_grad_enabled": (set_grad, ONCE),
    "hints_wrapper": (hints, ONCE),
    "strict_mode": (strict_mode, ONCE),
    "invoke_subgraph": (subgraph, ONCE),
    "run_with_rng_state": (with_rng_state, ONCE),
    "out_dtype": (out_dtype, ONCE),
    "auto_functionalized": (functionalized, ONCE),
    # 2 heads, 16 queries, 16 keys, vectors of 8 twice
    "flex_attention": (flex, 2 * 16 * 16 * (8 + 8)),
}


@pytest.fixture(autouse=True)
def eager():
    """Keep operators that compile themselves from it, which takes seconds and depends on the tests before."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.filterwarnings("ignore")  # flex_attention says that it is not compiled
@pytest.mark.parametrize("name", BODIES)
def test_what_a_body_runs_is_counted(name):
    program, macs = BODIES[name]
    expected = program()
    with OpCounter(strict=True) as counter:
        found = program()
    assert counter.macs == macs
    torch.testing.assert_close(tree_leaves(found), tree_leaves(expected), rtol=0, atol=0)


def test_an_error_in_a_body_leaves_no_trace():
    def fails(a):
        raise KeyError("inside")

    from torch._higher_order_ops.cond import cond_op

    with OpCounter() as counter:
        with pytest.raises(KeyError, match="inside"):
            cond_op(torch.tensor(True), fails, fails, (X,))
        once(X)
    assert counter.macs == ONCE


class Product(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a):
        return a @ W

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad @ W.T


def test_an_autograd_function_is_counted_in_both_directions():
    x = X.clone().requires_grad_()
    with OpCounter() as counter:
        Product.apply(x).sum().backward()
    assert {phase: total.macs for phase, total in counter.by_phase().items()} == {"forward": ONCE, "backward": ONCE}
    with OpCounter() as counter:
        torch.func.grad(lambda a: Product.apply(a).sum())(X)
    assert counter.macs == 2 * ONCE
    with OpCounter() as counter:
        torch.vmap(Product.apply)(torch.ones(5, 3, 4))
    assert counter.macs == 5 * ONCE


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_computes_forward_twice(reentrant):
    x = X.clone().requires_grad_()
    with OpCounter() as counter:
        torch.utils.checkpoint.checkpoint(lambda a: (a @ W).sin(), x, use_reentrant=reentrant).sum().backward()
    # forward, forward anew, and the gradient of x
    assert counter.macs == 3 * ONCE


def test_a_formula_prices_a_higher_order_operator_as_a_whole():
    from torch._higher_order_ops.hints_wrap import hints_wrapper

    with OpCounter(formulas={hints_wrapper: lambda out, body, *_: Cost(macs=7)}) as counter:
        hints_wrapper(once, (X,), {}, {"hint": 1})
    assert counter.macs == 7


class FakeKernel:
    """Stands for a Triton kernel, which needs a GPU."""

    __module__ = "triton.runtime.jit"
    arg_names = ("x", "n")

    def __getitem__(self, grid):
        return lambda x, n, **_: x.add_(n)

    __name__ = "add_n"


def launch(kernel, x):
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table, triton_kernel_wrapper_mutation

    triton_kernel_wrapper_mutation(
        kernel_idx=kernel_side_table.add_kernel(kernel),
        constant_args_idx=kernel_side_table.add_constant_args({"n": 2}),
        grid=[(1,)],
        tma_descriptor_metadata={},
        kwargs={"x": x},
    )


def test_a_triton_kernel_is_named_or_priced_by_its_formula():
    kernel, x = FakeKernel(), torch.zeros(3)
    with pytest.warns(match=r"triton\.add_n \(1 call\)"), OpCounter():
        launch(kernel, x)
    with OpCounter(formulas={kernel: lambda out, x, n: Cost(arith=n * x.numel())}, strict=True) as counter:
        launch(kernel, x)
    assert counter.arith == 2 * 3
    assert torch.equal(x, torch.full((3,), 4.0))


@pytest.mark.filterwarnings("ignore")  # flex_attention says that it is not compiled
@pytest.mark.parametrize("counters", [2, 3])
@pytest.mark.parametrize("name", BODIES)
def test_nested_counters_see_the_same_bodies(name, counters):
    program, macs = BODIES[name]
    expected = program()
    with ExitStack() as stack:
        nested = [stack.enter_context(OpCounter(strict=True)) for _ in range(counters)]
        found = program()
    assert [counter.macs for counter in nested] == [macs] * counters
    torch.testing.assert_close(tree_leaves(found), tree_leaves(expected), rtol=0, atol=0)


class Listing(TorchDispatchMode):
    """Anybody else's mode."""

    supports_higher_order_operators = True

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["cond, a tensor decides for the larger branch", "scan over five", "strict_mode"])
def test_another_mode_below_or_above_changes_nothing_and_sees_what_it_would_see(name):
    require("torch.utils._python_dispatch.TorchDispatchMode.supports_higher_order_operators")
    program, macs = BODIES[name]
    with Listing() as alone:
        program()
    with Listing() as below, OpCounter() as counter:
        program()
    with OpCounter() as outer, Listing() as above, OpCounter() as inner:
        program()
    assert (counter.macs, outer.macs, inner.macs) == (macs,) * 3
    assert below.operators == above.operators == alone.operators


def differentiated(program):
    def run():
        x = torch.ones(4, 4, requires_grad=True)
        sum(out.sum() for out in tree_leaves(program(x)) if out.requires_grad).backward()
        return x.grad

    return run


def scan_of(x):
    from torch._higher_order_ops.scan import scan

    return scan(lambda carry, a: (carry @ a, carry + a), x, torch.ones(5, 4, 4))


GRADIENTS = {
    # x @ x, once more in backward, and two products for its gradients
    "cond": (lambda x: torch.cond(x.sum() > 0, lambda a: (a @ a,), lambda a: (a @ a @ a,), (x,)), 4 * 4**3),
    # five rounds of one product forward, and of one product for the carry's gradient backward
    "scan": (scan_of, 10 * 4**3),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own imports
@pytest.mark.parametrize(
    "name", ["cond", pytest.param("scan", marks=needs("a backward of scan that runs no forward again"))]
)
def test_nested_counters_see_the_same_gradients(name):
    program, macs = GRADIENTS[name]
    run = differentiated(program)
    expected = run()
    with OpCounter() as outer, OpCounter() as inner:
        found = run()
    assert outer.macs == inner.macs == macs
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_branch_that_computes_nothing_is_not_named():
    with OpCounter(strict=True) as outer, OpCounter(strict=True) as inner:
        torch.cond(X.sum() < 0, once, lambda a: a.clone(), (X,))
    # the sum and the comparison
    assert outer.macs == inner.macs == 0
    assert outer.coverage.complete


@pytest.mark.parametrize("name", ["scan over five", "map over five", "strict_mode", "invoke_subgraph", "wrap"])
def test_a_dry_run_runs_a_body_as_often_as_a_real_run(name):
    if name == "map over five":
        require("a map that runs its body in a dry run")
    program, macs = BODIES[name]
    with OpCounter(dry_run=True, strict=True) as counter:
        program()
    assert counter.macs == macs
