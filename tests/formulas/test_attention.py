"""Attention in every kernel, against naive attention on numbers that count their operations."""

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter
from opcount.cost import Cost
from opcount.formulas import attention
from tests.features import needs
from tests.formulas.oracle import Meter, einsum, price, price_by_name, price_of, values

aten = torch.ops.aten
small = settings(deadline=None, max_examples=12)
dims = st.integers(1, 3)
shapes = st.tuples(dims, dims, dims, dims, dims, dims)  # b h l s e ev


def operands(b, h, l, s, e, ev):  # noqa: E741
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in ((b, h, l, e), (b, h, s, e), (b, h, s, ev)))


def attend(q, k, v):
    """Return the output of naive attention, and the meter of its products and of all else."""
    products, rest = Meter(), Meter()
    scores = einsum("bhle,bhse->bhls", products.read(q), products.read(k))
    p = rest.read(values(scores))
    for row in p.reshape(-1, p.shape[-1]):
        scaled = [x * (1 / sqrt(q.shape[-1])) for x in row]
        top = scaled[0].larger(scaled[0])
        for x in scaled[1:]:
            top = top.larger(x)
        powers = [(x - top).apply(lambda d: torch.tensor(d).exp().item()) for x in scaled]
        total = sum(powers, 0.0)
        row[:] = [x / total for x in powers]
    out = einsum("bhls,bhse->bhle", products.read(values(p)), products.read(v))
    return values(out), products, rest


@given(shape=shapes)
@small
def test_attention_counts_its_two_products_and_six_operations_for_each_score(shape):
    q, k, v = operands(*shape)
    expected, products, rest = attend(q, k, v)
    b, h, l, s, _, ev = shape  # noqa: E741
    assert torch.allclose(F.scaled_dot_product_attention(q, k, v), expected, atol=1e-5)  # elements near zero
    cost = price_of(aten._scaled_dot_product_fused_attention_overrideable.default, None, q, k, v)
    assert cost == Cost(products.products, rest.operations, b * h * l * s + b * h * l * ev)


@given(shape=shapes)
@small
def test_fused_attention_counts_the_products_of_decomposed_attention(shape):
    q, k, v = operands(*shape)
    with torch.no_grad(), OpCounter() as fused:
        F.scaled_dot_product_attention(q, k, v)
    with torch.no_grad(), OpCounter() as decomposed:
        torch.softmax(q @ k.mT / sqrt(q.shape[-1]), dim=-1) @ v
    assert (fused.macs, fused.activations) == (decomposed.macs, decomposed.activations)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_counts_the_same_on_every_device_and_in_every_grad_mode(mode, device):
    q, k, v = (torch.randn(2, 4, n, 8, device=device) for n in (5, 7, 7))
    with mode(), OpCounter() as counter:
        F.scaled_dot_product_attention(q, k, v)
    scores = 2 * 4 * 5 * 7
    assert (counter.macs, counter.activations) == (scores * (8 + 8), scores + 2 * 4 * 5 * 8)


@needs("attention of shared heads")
def test_heads_that_share_keys_save_nothing():
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    with torch.no_grad(), OpCounter() as shared:
        F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    with torch.no_grad(), OpCounter() as repeated:
        F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
    assert shared.macs == repeated.macs == 2 * 4 * 5 * 7 * (8 + 8)


def test_a_causal_mask_saves_nothing_and_costs_one_operation_for_each_score():
    q = torch.randn(2, 4, 5, 8)
    plain = price(aten._scaled_dot_product_flash_attention_for_cpu.default, q, q, q)
    causal = price(aten._scaled_dot_product_flash_attention_for_cpu.default, q, q, q, 0.0, True)
    masked = price(aten._scaled_dot_product_flash_attention_for_cpu.default, q, q, q, attn_mask=torch.zeros(5, 5))
    assert Cost(*causal) == masked == plain + Cost(arith=2 * 4 * 5 * 5)
    assert causal.causal == causal.macs


@given(shape=shapes)
@small
def test_the_backward_of_fused_attention_is_five_products(shape):
    q, k, v = operands(*shape)
    meter = Meter()
    read = meter.read
    p = values(einsum("bhle,bhse->bhls", read(q), read(k)))  # the scores, computed anew
    repeated = meter.products
    grad = torch.ones(*q.shape[:-1], v.shape[-1], dtype=torch.float64)
    einsum("bhls,bhle->bhse", read(p), read(grad))  # dv
    einsum("bhle,bhse->bhls", read(grad), read(v))  # dp
    einsum("bhls,bhse->bhle", read(p), read(k))  # dq
    einsum("bhls,bhle->bhse", read(p), read(q))  # dk
    operator = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    cost = price_by_name(operator, grad_out=grad, query=q, key=k, value=v)
    assert (cost.macs, cost.activations) == (meter.products, 0)
    assert (cost.repeated, cost.causal) == (repeated, 0)
    assert cost.arith == 6 * p.numel() + 2 * grad.numel()


def test_the_backward_of_cpu_attention_runs_under_the_counter():
    q, k, v = (torch.randn(2, 4, n, 8, requires_grad=True) for n in (5, 7, 7))
    out = F.scaled_dot_product_attention(q, k, v)
    with OpCounter() as backward:
        out.sum().backward()
    assert (backward.macs, backward.activations) == (2 * 4 * 5 * 7 * (3 * 8 + 2 * 8), 0)


ENDS = torch.tensor([0, 2, 2, 5], dtype=torch.int32)  # sequences of 2, 0 and 3
KEY_ENDS = torch.tensor([0, 4, 5, 7], dtype=torch.int32)  # of 4, 1 and 2
PAIRS = 2 * 4 + 0 * 1 + 3 * 2
HEADS, E = 4, 8
VARLEN = {
    "_flash_attention_forward": (((ENDS, KEY_ENDS, 3, 4), (0.0, False, False)), None),
    "_efficient_attention_forward": (((None, ENDS, KEY_ENDS, 3, 4), (0.0, 0)), 0),
    "_cudnn_attention_forward": (((None, ENDS, KEY_ENDS, 3, 4), (False, 0.0, False)), None),
}


@pytest.mark.parametrize("name", VARLEN)
def test_packed_sequences_meet_only_their_own_keys(name):
    q, k = torch.randn(5, HEADS, E), torch.randn(7, HEADS, E)
    (bounds, rest), batch = VARLEN[name]
    q, k = (q, k) if batch is None else (q[None], k[None])
    operator = getattr(aten, name).default
    scores = HEADS * PAIRS
    cost = price_of(operator, None, q, k, k, *bounds, *rest)
    assert cost == Cost(scores * 2 * E, 6 * scores, scores + 5 * HEADS * E)
    unread = [b.to("meta") if isinstance(b, torch.Tensor) else b for b in bounds]
    bound = price_of(operator, None, q, k, k, *unread, *rest)
    told = any(argument.name in {"max_k", "max_seqlen_k"} for argument in operator._schema.arguments)
    assert (
        bound.macs == 5 * (4 if told else 7) * HEADS * 2 * E
    )  # nobody can tell: every query meets the longest sequence


BACKWARD = {
    "_flash_attention_backward": {"cum_seq_q": ENDS, "cum_seq_k": ENDS, "max_k": 3},
    "_efficient_attention_backward": {"cu_seqlens_q": ENDS, "cu_seqlens_k": ENDS, "max_seqlen_k": 3},
    "_cudnn_attention_backward": {"cum_seq_q": ENDS, "cum_seq_k": ENDS, "max_k": 3},
}


@pytest.mark.parametrize("name", BACKWARD)
def test_the_backward_of_packed_sequences_is_five_products_for_each(name):
    q = torch.randn(5, HEADS, E)
    q = q[None] if "efficient" in name else q
    cost = price_by_name(getattr(aten, name).default, query=q, key=q, value=q, **BACKWARD[name])
    assert cost.macs == HEADS * (2 * 2 + 3 * 3) * 5 * E


def test_dense_attention_of_every_layout_counts_the_same():
    b, h, l, s, e, ev = 2, 4, 5, 7, 8, 6  # noqa: E741
    first = operands(b, h, l, s, e, ev)
    second = [x.transpose(1, 2) for x in first]
    expected = attend(*first)[1].products
    calls = {
        "_flash_attention_forward": (*second, None, None, l, s, 0.0, False, False),
        "_efficient_attention_forward": (*second, None, None, None, l, s, 0.0, 0),
        "_cudnn_attention_forward": (*first, None, None, None, l, s, False),
        "_scaled_dot_product_flash_attention": first,
        "_scaled_dot_product_efficient_attention": (*first, None, False),
        "_scaled_dot_product_cudnn_attention": (*first, None, False),
        "_scaled_dot_product_attention_math_for_mps": first,
        "_triton_scaled_dot_attention": first,
    }
    assert {price_of(getattr(aten, n).default, None, *a).macs for n, a in calls.items()} == {expected}
    quantized = aten._scaled_dot_product_flash_attention.quantized
    assert price_of(quantized, None, *first, None, None, None).macs == expected
    inplace = aten._flash_attention_forward_no_dropout_inplace.default
    assert price_of(inplace, None, first[0], *calls["_flash_attention_forward"]).macs == expected


@needs("a length of the cache in use for packed attention")
def test_a_cache_counts_the_keys_in_use():
    q, k = torch.randn(2, 1, HEADS, E), torch.randn(2, 100, HEADS, E)
    used = torch.tensor([10, 20], dtype=torch.int32)
    cost = price_of(
        aten._flash_attention_forward.default, None, q, k, k, None, None, 1, 100, 0.0, False, False, seqused_k=used
    )
    assert cost.macs == HEADS * (10 + 20) * 2 * E


@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
def test_flex_attention_counts_what_attention_does():
    from torch.nn.attention.flex_attention import flex_attention  # noqa: PLC0415

    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 8)
    with torch.no_grad(), OpCounter() as flex:
        flex_attention(q, k, v)
    scores = 2 * 4 * 5 * 7
    assert (flex.macs, flex.activations) == (scores * (8 + 8), scores + 2 * 4 * 5 * 8)


@pytest.fixture
def use_fast_path():
    """Switch the fast paths of attention off until the test asks for them."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield lambda: torch.backends.mha.set_fastpath_enabled(True)
    torch.backends.mha.set_fastpath_enabled(True)


MODULES = {
    "encoder layer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "encoder layer, norm first, gelu": lambda: nn.TransformerEncoderLayer(
        8, 2, 16, activation="gelu", batch_first=True, norm_first=True
    ),
}


class Listing(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", MODULES)
@torch.no_grad()
def test_the_fast_path_of_an_encoder_layer_counts_what_its_parts_do(kind, use_fast_path):
    layer, x = MODULES[kind]().eval(), torch.randn(3, 5, 8)
    with OpCounter(strict=True) as parts:
        layer(x)
    use_fast_path()
    with Listing() as listing, OpCounter(strict=True) as fast:
        layer(x)
    assert listing.operators == ["aten._transformer_encoder_layer_fwd.default"]
    assert fast.by_operator() == parts.by_operator()


@pytest.mark.parametrize("need_weights", [True, False])
@torch.no_grad()
def test_the_fast_path_of_multi_head_attention_counts_what_its_parts_do(need_weights, use_fast_path):
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8)
    with OpCounter(strict=True) as parts:
        layer(x, x, x, need_weights=need_weights)
    use_fast_path()
    with Listing() as listing, OpCounter(strict=True) as fast:
        layer(x, x, x, need_weights=need_weights)
    assert listing.operators == ["aten._native_multi_head_attention.default"]
    assert costs(fast) == costs(parts)


def costs(counter):
    totals = counter.by_operator().values()
    return [sum(getattr(total, what) for total in totals) for what in ("macs", "arith", "activations")]


@pytest.mark.parametrize("kind", MODULES)
@torch.no_grad()
def test_a_fast_path_that_cannot_be_opened_counts_as_a_whole_what_its_parts_do(kind, use_fast_path):
    with OpCounter(strict=True) as parts:
        MODULES[kind]().eval()(torch.randn(3, 5, 8))
    use_fast_path()
    with FakeTensorMode():
        layer, x = MODULES[kind]().eval(), torch.randn(3, 5, 8)
        with OpCounter(strict=True) as whole:
            layer(x)
    assert costs(whole) == costs(parts)


@torch.no_grad()
def test_multi_head_attention_that_cannot_be_opened_counts_as_a_whole_what_its_parts_do(use_fast_path):
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8)
    with OpCounter(strict=True) as parts:
        layer(x, x, x, need_weights=False)
    use_fast_path()
    with FakeTensorMode():
        layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8)
        with OpCounter(strict=True) as whole:
            layer(x, x, x, need_weights=False)
    assert costs(whole) == costs(parts)


def test_cudnn_attention_into_a_given_tensor_is_that_of_packed_sequences():
    q, k = torch.randn(5, HEADS, E), torch.randn(7, HEADS, E)
    cost = attention.cudnn_forward_inplace(None, q, q, k, k, ENDS, KEY_ENDS, 3, 4)
    bounds = {"cum_seq_q": ENDS, "cum_seq_k": KEY_ENDS, "max_k": 4}
    assert cost == price_by_name(aten._cudnn_attention_forward.default, query=q, key=k, value=k, **bounds)
    assert cost.macs == HEADS * PAIRS * 2 * E


def test_cudnn_attention_counts_the_keys_in_use():
    q, k = torch.randn(2, HEADS, E), torch.randn(200, HEADS, E)
    ends, key_ends = torch.tensor([0, 1, 2], dtype=torch.int32), torch.tensor([0, 100, 200], dtype=torch.int32)
    used = torch.tensor([10, 20], dtype=torch.int32)
    whole = attention.cudnn_forward(q, k, k, ends, key_ends, 100, is_causal=False)
    part = attention.cudnn_forward(q, k, k, ends, key_ends, 100, is_causal=False, seqused_k=used)
    assert (whole.macs, part.macs) == (HEADS * 200 * 2 * E, HEADS * 30 * 2 * E)
    assert attention.cudnn_forward_inplace(None, q, q, k, k, ends, key_ends, 1, 100, seqused_k=used) == part


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn"])
def test_attention_of_nested_tensors_is_that_of_each_component(kernel):
    packet = getattr(aten, f"_scaled_dot_product_{kernel}_attention")
    lengths = ((2, 3), (4, 1))
    parts = [operands(1, 2, l, s, 5, 6) for l, s in lengths]  # noqa: E741
    q, k, v = (torch.nested.nested_tensor([part[i][0] for part in parts]) for i in range(3))
    takes_bias = any(argument.name == "attn_bias" for argument in packet.default._schema.arguments)
    rest = (None, False) if takes_bias else ()
    each = [price_of(packet.default, None, *part, *rest) for part in parts]
    assert price_of(packet.default, None, q, k, v, *rest) == each[0] + each[1]
    assert each[0].macs + each[1].macs == 2 * (2 * 3 + 4 * 1) * (5 + 6)
