"""Formulas for composite operators, which PyTorch shows under inference_mode alone, are asked in every mode."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from opcount import Cost, OpCounter, flop_budget, formula, get_model_complexity_info
from opcount.errors import FormulaError
from opcount.interceptor import composites
from opcount.interceptor.composites import composites_among
from opcount.registry import USER
from tests.features import needs

pytestmark = needs("torch._ops.OpOverload.redispatch")

MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)
X, W = torch.ones(2, 3), torch.ones(4, 3)
CALLS = {
    "linear": lambda: nn.functional.linear(X, W),
    "matmul": lambda: torch.matmul(X, W.t()),
    "conv2d": lambda: nn.functional.conv2d(torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3)),
    "conv_transpose2d": lambda: nn.functional.conv_transpose2d(torch.ones(1, 2, 5, 5), torch.ones(2, 3, 3, 3)),
    "einsum": lambda: torch.einsum("bi,oi->bo", X, W),
    "tensordot": lambda: torch.tensordot(X, W, dims=([1], [1])),
    "layer_norm": lambda: nn.functional.layer_norm(X, (3,)),
    "batch_norm": lambda: nn.functional.batch_norm(X, torch.zeros(3), torch.ones(3)),
    "group_norm": lambda: nn.functional.group_norm(torch.ones(2, 4, 3), 2),
    "instance_norm": lambda: nn.functional.instance_norm(torch.ones(2, 4, 3)),
    "dropout": lambda: nn.functional.dropout(X, 0.5),
    "lstm": lambda: nn.LSTM(3, 4)(X),
    "gru": lambda: nn.GRU(3, 4)(X),
    "lstm_cell": lambda: nn.LSTMCell(3, 4)(X),
    "scaled_dot_product_attention": lambda: nn.functional.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 4)] * 3),
    "softmax": lambda: nn.functional.softmax(X, 1),
    "log_softmax": lambda: nn.functional.log_softmax(X, 1),
    "cross_entropy_loss": lambda: nn.functional.cross_entropy(X, torch.tensor([0, 1])),
    "cosine_similarity": lambda: nn.functional.cosine_similarity(X, X),
    "fft_fft": lambda: torch.fft.fft(X),
    "outer": lambda: torch.outer(X[0], W[0]),
    "kron": lambda: torch.kron(X, W),
    "max_pool2d": lambda: nn.functional.max_pool2d(torch.ones(1, 1, 4, 4), 2),
    "square_": lambda: X.clone().square_(),
    "linear.default": lambda: nn.functional.linear(X, W),
}


def one(_out, *_args, **_kwargs):
    return Cost(macs=1)


@pytest.fixture
def everybody(monkeypatch):
    monkeypatch.setattr(USER, "_formulas", dict(USER.targets()))


def counted(run, formulas, **options):
    counts = []
    for mode in MODES:
        with mode(), OpCounter(formulas=formulas, **options) as counter:
            run()
        counts.append((counter.macs, counter.arith))
    assert not composites._KERNELS
    assert not torch._C._dispatch_tls_is_dispatch_key_included(torch._C.DispatchKey.PreDispatch)
    return counts


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_a_formula_for_a_composite_operator_prices_it_in_every_mode(name, dry_run):
    assert [macs for macs, _ in counted(CALLS[name], {f"aten::{name}": one}, dry_run=dry_run)] == [1, 1, 1]


@pytest.mark.parametrize("name", ["linear", "einsum", "cross_entropy_loss", "scaled_dot_product_attention"])
def test_one_that_is_declared_free_costs_nothing_in_any_mode(name):
    assert counted(CALLS[name], {f"aten.{name}": None}) == [(0, 0)] * 3


@pytest.mark.parametrize("target", [torch.ops.aten.linear, torch.ops.aten.linear.default, "aten.linear"])
def test_it_is_found_however_it_is_given(target):
    assert counted(lambda: nn.functional.linear(X, W), {target: one}) == [(1, 0)] * 3


def test_a_composite_operator_inside_another_is_priced_in_every_mode():
    assert [macs for macs, _ in counted(CALLS["cross_entropy_loss"], {"aten.log_softmax": one})] == [1, 1, 1]


def test_a_formula_for_everybody_is_asked_by_counters_and_by_the_drop_in(everybody):
    formula("aten.einsum")(one)

    class Model(nn.Module):
        def forward(self, x):
            return torch.einsum("bi,oi->bo", x, W)

    assert counted(CALLS["einsum"], {}) == [(1, 0)] * 3
    assert get_model_complexity_info(Model(), inputs=(X,))["flops"] == 1
    with flop_budget("1 MAC"):
        CALLS["einsum"]()


def test_outputs_gradients_and_the_graph_are_those_without_a_counter():
    x = torch.randn(5, 3)

    def run():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        out = model(x)
        out.square().sum().backward()
        return [out, out.grad_fn.name(), *(p.grad for p in model.parameters())]

    expected = run()
    with OpCounter(formulas={"aten.linear": one, "aten.dropout": one}) as counter:
        got = run()
    assert counter.by_phase()["forward"].macs == 3
    assert got[1] == expected[1]
    assert all(torch.equal(a, b) for a, b in zip(got[::2], expected[::2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(got[3:], expected[3:], strict=True))


def test_the_backward_of_its_parts_is_counted_as_ever():
    w = W.clone().requires_grad_()
    with OpCounter(formulas={"aten.linear": one}) as counter:
        nn.functional.linear(X, w).sum().backward()
    assert {phase: total.macs for phase, total in counter.by_phase().items()} == {"forward": 1, "backward": 2 * 3 * 4}


@pytest.mark.parametrize(("reentrant", "recomputed"), [(False, 1), (True, 2)])
def test_a_checkpoint_asks_again_for_what_it_recomputes(reentrant, recomputed):
    x = X.clone().requires_grad_()
    with OpCounter(formulas={"aten.linear": one}) as counter:  # the newer checkpoint stops before the last product
        checkpoint(
            lambda v: nn.functional.linear(nn.functional.linear(v, W), W.t()), x, use_reentrant=reentrant
        ).sum().backward()
    macs = {phase: total.macs for phase, total in counter.by_phase().items()}
    assert (macs["forward"], macs["recompute"]) == (2, recomputed)


@pytest.mark.parametrize(("outer", "inner"), [(one, None), (None, one), (one, one)])
def test_only_the_counter_that_has_the_formula_asks_it(outer, inner):
    counters = [OpCounter(formulas=f and {"aten.linear": f}) for f in (outer, inner)]
    with counters[0], counters[1]:
        nn.functional.linear(X, W)
    assert [counter.macs for counter in counters] == [1 if f else 2 * 3 * 4 for f in (outer, inner)]


def test_counters_that_overlap_without_nesting_leave_nothing():
    first, second = (OpCounter(formulas={f"aten.{name}": one}) for name in ("linear", "einsum"))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    CALLS["einsum"]()
    CALLS["linear"]()
    second.__exit__(None, None, None)
    assert (first.macs, second.macs) == (0, 1 + 24)
    assert not composites._KERNELS


def test_it_is_charged_to_the_module_that_calls_it_on_every_thread():
    model = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])
    with OpCounter(model, formulas={"aten.linear": one}) as counter:
        worker = threading.Thread(target=model[1], args=(X,))
        worker.start()
        worker.join()
        model[0](X)
    assert {path: total.macs for path, total in counter.by_module().items()} == {"": 2, "0": 1, "1": 1}


def test_autocast_shows_the_dtype_that_is_computed_with():
    with torch.autocast("cpu", torch.bfloat16), OpCounter(formulas={"aten.linear": one}) as counter:
        assert nn.functional.linear(X, W).dtype is torch.bfloat16
    assert {dtype: total.macs for dtype, total in counter.by_dtype().items() if total.macs} == {"bfloat16": 1}


def test_pause_and_whole_modules_hide_it():
    with OpCounter(formulas={"aten.linear": one, nn.Bilinear: one}) as counter:
        counter.pause()
        nn.functional.linear(X, W)
        counter.resume()
        nn.Bilinear(3, 3, 4)(X, X)
    assert counter.macs == 1


def test_a_transform_asks_it_and_vmap_is_an_error():
    with OpCounter(formulas={"aten.linear": one}) as counter:
        torch.func.grad(lambda x: nn.functional.linear(x, W).sum())(X)
    assert counter.by_phase()["forward"].macs == 1
    for run in (
        torch.vmap(lambda x: nn.functional.linear(x, W)),
        torch.vmap(torch.func.grad(lambda x: nn.functional.linear(x, W).sum())),
    ):
        with OpCounter(formulas={"aten.linear": one}), pytest.raises(FormulaError, match=r"torch\.vmap.*nn\.Module"):
            run(X)


def test_a_formula_that_fails_says_so_and_leaves_nothing():
    with pytest.raises(FormulaError, match=r"aten\.linear\.default.*ZeroDivisionError"):
        counted(lambda: nn.functional.linear(X, W), {"aten.linear": lambda *_: 1 // 0})
    assert not composites._KERNELS


def test_a_composite_operator_of_a_library_is_priced_in_every_mode():
    library = torch.library.Library("test_composites", "FRAGMENT")
    library.define("twice(Tensor x, Tensor w) -> Tensor")
    library.impl("twice", lambda x, w: (x @ w) @ w, "CompositeImplicitAutograd")
    square = torch.ones(3, 3)
    assert counted(lambda: torch.ops.test_composites.twice(X, square), {"test_composites.twice": one}) == [(1, 0)] * 3
    library._destroy()


def test_a_packet_with_some_composite_overloads_is_asked_for_all_of_them():
    x = torch.arange(6.0).reshape(2, 3)
    assert [macs for macs, _ in counted(lambda: (torch.max(x, x), torch.max(x)), {"aten.max": one})] == [2, 2, 2]


def test_nothing_is_looked_for_that_is_not_composite_or_does_not_exist():
    assert not composites_among(["aten.mm", "aten.convolution", "mylib.no_such_operator", nn.Linear])
    assert [str(func) for func in composites_among(["aten.linear"])] == ["aten.linear.default"]


def test_entering_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counted(lambda: nn.functional.linear(X, W), {"aten.linear": one})
