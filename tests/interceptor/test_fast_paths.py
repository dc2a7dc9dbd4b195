"""Attention and encoder layers without gradients take fused operators, and count as they do with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from opcount import Cost, OpCounter
from opcount.interceptor import recorder
from tests.features import needs, require

BATCH, LENGTH, WIDTH, HEADS, HIDDEN = 2, 5, 8, 2, 16
MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)
X = torch.randn(BATCH, LENGTH, WIDTH)
CAUSAL = nn.Transformer.generate_square_subsequent_mask(LENGTH)
PAIRS = torch.eye(LENGTH, dtype=torch.bool)
PADDED = torch.tensor([[False] * LENGTH, [True] + [False] * (LENGTH - 1)])  # not at the end: no nested tensor is made

ATTENTION_MASKS = {
    "no mask": {},
    "pairs": {"attn_mask": PAIRS},
    "padding": {"key_padding_mask": PADDED},
    "both": {"attn_mask": PAIRS, "key_padding_mask": PADDED},
    "pairs of each head": {"attn_mask": PAIRS.expand(BATCH * HEADS, -1, -1)},
    "floating": {"attn_mask": CAUSAL},
    "causal": {"attn_mask": CAUSAL, "is_causal": True},
}
LAYER_MASKS = {
    "no mask": {},
    "pairs": {"src_mask": PAIRS},
    "padding": {"src_key_padding_mask": PADDED},
    "both": {"src_mask": PAIRS, "src_key_padding_mask": PADDED},
    "floating": {"src_mask": CAUSAL},
    "causal": {"src_mask": CAUSAL, "is_causal": True},
}


def figures(counter):
    """Return all that the modes have to agree on, the calls of modules included."""
    profile = counter.profile
    sums = {
        key: {name: (t.macs, t.arith, t.activations) for name, t in view.items() if t.macs or t.arith}
        for key, view in (("operators", profile.by_operator()), ("dtypes", profile.by_dtype()))
    }
    modules = {path: (t.macs, t.arith, t.activations) for path, t in profile.by_module().items()}
    return sums, modules, {path: module.calls for path, module in profile.modules.items()}


def agree(model, call, *, modes=MODES, dry=True):
    found = []
    for mode in modes:
        with mode():
            bare = call(model)
            with OpCounter(model, strict=True, convention="full") as outer, OpCounter(model) as inner:
                out = call(model)
        torch.testing.assert_close(out, bare, rtol=0, atol=0)
        assert figures(outer) == figures(inner)
        found.append(figures(outer))
    if dry:
        with OpCounter(model, dry_run=True) as counter:
            call(model)
        assert figures(counter)[1:] == found[0][1:]
    assert all(other == found[0] for other in found[1:])
    return found[0]


@pytest.mark.parametrize("mask", ATTENTION_MASKS)
@pytest.mark.parametrize(("need_weights", "average"), [(True, True), (True, False), (False, True)])
def test_attention_counts_the_same_in_every_mode(mask, need_weights, average):
    model = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    options = {"need_weights": need_weights, "average_attn_weights": average, **ATTENTION_MASKS[mask]}
    agree(model, lambda attention: attention(X, X, X, **options))


@pytest.mark.parametrize("mask", ATTENTION_MASKS)
@pytest.mark.parametrize("kind", [{"bias": False}, {"kdim": WIDTH, "vdim": WIDTH}, {"add_bias_kv": True}])
def test_attention_that_has_no_fast_path_counts_the_same_in_every_mode(kind, mask):
    model = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **kind).eval()
    agree(model, lambda m: m(X, X, X, **ATTENTION_MASKS[mask]))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_attention_can_be_scripted_inside():
    model = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    with OpCounter():
        scripted = torch.jit.script(model)
    with torch.no_grad():
        found, _ = scripted(X, X, X, attn_mask=PAIRS, key_padding_mask=PADDED)
        expected, _ = model(X, X, X, attn_mask=PAIRS, key_padding_mask=PADDED)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mask", LAYER_MASKS)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", nn.ReLU(), nn.functional.gelu, torch.tanh])
def test_an_encoder_layer_counts_the_same_in_every_mode(norm_first, activation, mask):
    model = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, norm_first=norm_first, activation=activation, batch_first=True
    ).eval()
    _, modules, calls = agree(model, lambda layer: layer(X, **LAYER_MASKS[mask]))
    tokens = BATCH * LENGTH
    assert modules["linear1"][0] == modules["linear2"][0] == tokens * WIDTH * HIDDEN
    # four projections; scores and their products with the values
    assert modules["self_attn"][0] == 4 * tokens * WIDTH**2 + 2 * BATCH * LENGTH**2 * WIDTH
    assert calls["norm1"] == calls["dropout"] == calls["self_attn"] == 1


ATTENTION = "attention's fast path under autocast on a CPU"
LAYOUTS = {
    "transposed": lambda: torch.randn(BATCH, WIDTH, LENGTH).transpose(1, 2),
    "batch second": lambda: torch.randn(LENGTH, BATCH, WIDTH).transpose(0, 1),
    "sliced": lambda: torch.randn(BATCH, LENGTH, 2 * WIDTH)[..., 1::2],
    "expanded": lambda: torch.randn(1, LENGTH, WIDTH).expand(BATCH, -1, -1),
}
FAST = {
    "attention": (nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval(), lambda m, x: m(x, x, x)),
    "a layer": (nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval(), lambda m, x: m(x)),
}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["plain", "autocast"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_inputs_give_the_same_bits(layout, name, mode, dtype):
    if dtype is not None:
        require("a fast path under autocast on a CPU" if name == "a layer" else ATTENTION)
    model, call = FAST[name]
    for _ in range(5):
        x = LAYOUTS[layout]()
        with mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            bare = call(model, x)
            with OpCounter(model, strict=True):
                out = call(model, x)
        torch.testing.assert_close(out, bare, rtol=0, atol=0, check_stride=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (nn.MultiheadAttention, lambda attention, x: attention(x, x, x, need_weights=False)),
        (nn.MultiheadAttention, lambda attention, x: attention(x, X, x + 1)),
        (nn.TransformerEncoderLayer, lambda layer, x: layer(x)),
    ],
    ids=["attention", "attention to others", "layer"],
)
def test_the_layout_of_inputs_decides_the_operators_in_every_mode(kind, call, layout):
    model, x = kind(WIDTH, HEADS, batch_first=True).eval(), LAYOUTS[layout]()
    sums, _, _ = agree(model, lambda model: call(model, x), dry=False)
    with OpCounter(model, dry_run=True) as counter:
        call(model, x)
    assert figures(counter)[0]["operators"] == sums["operators"]


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True)
        self.blocks = nn.ModuleList([self.layer, nn.TransformerEncoderLayer(WIDTH, HEADS, 4, batch_first=True)])

    def forward(self, x):
        for block in self.blocks:
            x = block(self.layer(x))
        return x


MODELS = {
    "an encoder": lambda: nn.TransformerEncoder(Shared().layer, 3, norm=nn.LayerNorm(WIDTH)),
    "a shared layer": Shared,
    "double precision": lambda: Shared().double(),
    "half precision": lambda: Shared().bfloat16(),
    "frozen weights": lambda: Shared().requires_grad_(False),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_encoder_layers_counts_the_same_in_every_mode(name):
    model = MODELS[name]().eval()
    x = X.to(next(model.parameters()).dtype)
    agree(model, lambda module: module(x))


def test_an_encoder_counts_the_same_with_padding_that_stays():
    model = nn.TransformerEncoder(Shared().layer, 2).eval()
    agree(model, lambda encoder: encoder(X, src_key_padding_mask=PADDED))


def test_a_transformer_counts_the_same_in_every_mode():
    model = nn.Transformer(WIDTH, HEADS, 2, 2, HIDDEN, batch_first=True).eval()
    target = torch.randn(BATCH, 3, WIDTH)
    agree(model, lambda transformer: transformer(X, target, tgt_key_padding_mask=torch.eye(2, 3, dtype=torch.bool)))


def test_submodules_of_a_layer_outside_of_a_model_get_their_share():
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
    found = []
    for grad_mode in MODES:
        with grad_mode(), OpCounter() as counter:
            layer(X)
        found.append(figures(counter))
    assert found[0] == found[1] == found[2]
    assert "TransformerEncoderLayer.linear1" in found[0][1]


@needs("a fast path under autocast on a CPU")
def test_a_fast_path_under_autocast_computes_what_it_does_bare():
    model = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        bare = model(X)
        with OpCounter(model) as outer, OpCounter(model) as inner:
            counted = model(X)
    assert torch.equal(counted, bare)
    products, scores = BATCH * LENGTH * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN), 2 * BATCH * LENGTH**2 * WIDTH
    assert outer.macs == inner.macs == products + scores


def test_a_layer_that_is_called_by_its_operator_is_the_callers():
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    weights = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    counts = []
    for mask, kind in ((None, None), (PADDED, 1), (PAIRS, 0)):
        with torch.no_grad(), OpCounter(strict=True) as counter:
            torch._native_multi_head_attention(X, X, X, WIDTH, HEADS, *weights, mask, True, True, kind)
        counts.append(counter.macs)
    assert counts == [4 * BATCH * LENGTH * WIDTH**2 + 2 * BATCH * LENGTH**2 * WIDTH] * 3


def test_saved_tensor_hooks_see_no_tensor_of_a_fast_path():
    layer, packed = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval(), []
    with torch.no_grad():
        expected, alone = layer(X), OpCounter(layer)
        with alone:
            layer(X)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t.numpy(), torch.from_numpy):
            with OpCounter(layer) as counter:
                out = layer(X)
            weight = torch.ones(2, requires_grad=True)
            with torch.enable_grad():
                (weight * weight).sum()  # the hooks are as they were
    assert torch.equal(out, expected)
    assert figures(counter) == figures(alone)
    assert {tensor.shape for tensor in packed} == {weight.shape}


def test_nothing_is_charged_while_a_counter_is_paused():
    model = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
    with torch.no_grad(), OpCounter(model) as outer, OpCounter(model) as inner:
        inner.pause()
        model(X)
        inner.resume()
    assert inner.macs == 0 < outer.macs


def test_a_fast_path_is_counted_without_importing_the_compiler(forked):
    script = """
import sys, torch
from torch import nn
from opcount import OpCounter
layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(2, 5, 8)
attention, pairs = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.eye(5, dtype=torch.bool)
with torch.no_grad(), OpCounter():
    layer(x), layer(x, src_mask=pairs), attention(x, x, x), attention(x, x, x, attn_mask=pairs)
assert "torch._dynamo" not in sys.modules
"""
    done = forked(script)
    assert done.returncode == 0, done.stderr


def test_what_lengths_cost_is_forgotten_in_time(monkeypatch):
    monkeypatch.setattr(recorder, "_CAPACITY", 3)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
    with torch.no_grad(), OpCounter(layer) as counter:
        for length in (*range(1, 9), *range(1, 9)):
            layer(torch.randn(1, length, WIDTH))
    # four projections and two linear layers; scores and their products with the values
    tokens, pairs = 2 * sum(range(1, 9)), 2 * sum(n * n for n in range(1, 9))
    assert counter.macs == tokens * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 2 * pairs * WIDTH


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", ["attention", "layer"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_autocast_counts_the_products_of_a_fast_path_in_its_dtype(
    mode: type[torch.no_grad], kind: str, norm_first: bool
) -> None:
    """As step by step, with gradients; a dry run has the same rows."""
    require(ATTENTION if kind == "attention" else "a fast path under autocast on a CPU")
    options: Any = {"batch_first": True}
    attention = nn.MultiheadAttention(8, 2, **options)
    model = attention if kind == "attention" else nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, **options)
    model.eval()

    def run(context: Any, *, dry: bool) -> OpCounter:
        x = torch.randn(2, 3, 8)
        with context(), torch.autocast("cpu", torch.bfloat16), OpCounter(model, dry_run=dry) as c:
            model(*([x] * 3 if kind == "attention" else [x]))
        return c

    def rows(c: OpCounter) -> dict[Any, Any]:
        return {r.key: (r.calls, r.cost, r.bytes) for r in c.profile.records if r.family != "free"}

    real, dry, stepwise = run(mode, dry=False), run(mode, dry=True), run(torch.enable_grad, dry=False)
    assert rows(real) == rows(dry)
    for one in (real, stepwise):
        assert {dtype: total.macs for dtype, total in one.by_dtype().items() if total.macs} == {"bfloat16": real.macs}


def with_formula(out, *args, **kwargs):
    """Return a cost that tells what the formula was given, for it is to be the same in every mode."""
    parts = out if isinstance(out, tuple) else (out,)
    elements = sum(part.numel() for part in parts if part is not None)
    given = sum(each.numel() for each in args if isinstance(each, torch.Tensor))
    return Cost(macs=elements + 1000 * given, arith=1 + 10 * len(args) + 100 * bool(kwargs.get("is_causal")))


FORMULAS = [
    *("aten.linear", "aten.layer_norm", "aten.scaled_dot_product_attention", "aten.softmax.int", "aten.dropout"),
    *(nn.Linear, nn.LayerNorm, nn.Dropout, nn.GELU, nn.MultiheadAttention, nn.TransformerEncoderLayer),
]
"""Composite operators, and classes of modules: no fast path shows either."""


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("target", FORMULAS, ids=str)
def test_formulas_for_what_a_fast_path_hides_are_asked_in_every_mode(target, norm_first):
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, activation=nn.GELU(), norm_first=norm_first, batch_first=True
    )
    if isinstance(target, str):
        require("torch._ops.OpOverload.redispatch")  # by which composite operators are seen whole
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    model = nn.ModuleDict({"attention": attention, "layer": layer}).eval()

    def counted(mode, formula):
        with mode(), OpCounter(model, formulas={target: formula}, strict=True, convention="full") as counter:
            model["attention"](X, X, X)
            for mask in LAYER_MASKS.values():
                model["layer"](X, **mask)
        return figures(counter)

    for formula in (with_formula, None):
        found = [counted(mode, formula) for mode in MODES]
        assert found[1:] == found[:1] * 2
        asked = target if isinstance(target, str) else f"module.{target.__name__}"
        assert any(name.startswith(asked) for name in found[0][0]["operators"]) == (formula is not None)
