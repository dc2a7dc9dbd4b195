"""flash-attn's and xformers' kernels: what PyTorch's own attention counts for the same sizes."""

from __future__ import annotations

import pytest
import torch

from opcount import Cost, OpCounter
from opcount.errors import FormulaError
from opcount.formulas import attention
from opcount.registry import BUILTIN
from tests.formulas.functions import backward, count, forward, stand_in, wanting

B, L, S, H, KV, E = 2, 5, 7, 4, 2, 8
TWO = (0.0, None, False, (-1, -1), 0.0, None, False, False, True)
"""dropout, scale, causal, window, softcap, slopes, deterministic, return_softmax, is_grad_enabled: version 2.8."""


def dense(l=L, s=S, kv=KV):  # noqa: E741
    return torch.rand(B, l, H, E), torch.rand(B, s, kv, E), torch.rand(B, s, kv, E)


def reference(q, k, v, causal=False):
    """Price the same as PyTorch's operator; each head of keys serves several of queries."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    return attention.flash(q, k, v, causal), attention.backward(q, k, v, causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        lambda causal: (*TWO[:2], causal, *TWO[3:]),  # 2.8
        lambda causal: (0.0, None, causal, (-1, -1), None, False, False),  # 2.4
        lambda causal: (None, causal, None, 1.0),  # Triton: bias, causal, scale
        lambda causal: (None, causal, None, None, None, None, (-1, -1), 0, 0.0),  # 3
        lambda causal: (None, causal, (None, None), None, 0.0, None),  # 4
    ],
)
def test_every_version_counts_what_pytorch_does(layout, causal):
    q, k, v = dense()
    ours, theirs = forward("FlashAttnFunc", q, q, k, v, *layout(causal)), reference(q, k, v, causal)
    assert (ours, backward("FlashAttnFunc", q, q, k, v, *layout(causal))) == theirs


def test_a_bias_and_slopes_are_added_to_the_scores():
    q, k, v = dense()
    masked = Cost(*reference(q, k, v, causal=True)[0])  # of which nothing is causal
    assert forward("FlashAttnFunc", q, q, k, v, torch.zeros(1, 1, L, S), False, None) == masked
    assert forward("FlashAttnFunc", q, q, k, v, *TWO[:5], torch.zeros(H), *TWO[6:]) == masked
    descaled = (None, False, None, torch.ones(B, H), torch.ones(B, KV), torch.ones(B, KV), (-1, -1), 0, 0.0)
    assert forward("FlashAttnFunc", q, q, k, v, *descaled) == reference(q, k, v)[0]


def test_packed_tensors_count_as_those_apart():
    q, k, v = dense(S, S, H)
    kv, qkv = torch.stack([k, v], 2), torch.stack([q, k, v], 2)
    expected = reference(q, k, v)
    assert (forward("FlashAttnKVPackedFunc", q, q, kv, *TWO), backward("FlashAttnKVPackedFunc", q, q, kv, *TWO)) == (
        expected
    )
    assert (forward("FlashAttnQKVPackedFunc", q, qkv, *TWO), backward("FlashAttnQKVPackedFunc", q, qkv, *TWO)) == (
        expected
    )


LENGTHS, KEYS = [1, 4, 3], [2, 5, 3]


def packed():
    """Return sequences one behind the other, their bounds, and the costs of each alone, summed up."""
    ends = [torch.tensor([0, *torch.tensor(n).cumsum(0)], dtype=torch.int32) for n in (LENGTHS, KEYS)]
    q, k, v = torch.rand(sum(LENGTHS), H, E), torch.rand(sum(KEYS), KV, E), torch.rand(sum(KEYS), KV, E)
    both = [reference(*(torch.rand(1, n, h, E) for n, h in ((a, H), (b, KV), (b, KV)))) for a, b in zip(LENGTHS, KEYS)]  # noqa: B905
    return q, k, v, ends, tuple(sum(costs[1:], costs[0]) for costs in zip(*both, strict=True))


def test_packed_sequences_count_each_their_own_length():
    q, k, v, ends, expected = packed()
    two = (*ends, 4, 5, *TWO[:-1], None, True)
    three = (*ends, None, None, 4, 5, None, False)
    for name, args in (("FlashAttnVarlenFunc", two), ("FlashAttnVarlenFunc", three), ("FlashAttnFunc", two)):
        assert (forward(name, q, q, k, v, *args), backward(name, q, q, k, v, *args)) == expected
    kv = torch.stack([k, v], 1)
    assert forward("FlashAttnVarlenKVPackedFunc", q, q, kv, *two) == expected[0]


def test_packed_sequences_of_one_tensor_have_one_bound():
    q, _, _, ends, _ = packed()
    qkv = torch.rand(sum(LENGTHS), 3, H, E)
    same = (ends[0], ends[0], 4, 4, *TWO)
    expected = forward("FlashAttnVarlenFunc", q, q, q, q, *same)
    assert forward("FlashAttnVarlenQKVPackedFunc", q, qkv, ends[0], 4, *TWO) == expected


def test_keys_in_use_count_alone():
    q, k, v, ends, _ = packed()
    used = torch.tensor([1, 2, 0], dtype=torch.int32)
    cost = forward("FlashAttnVarlenFunc", q, q, k, v, *ends, None, used, 4, 5, None, False)
    assert cost.macs == H * sum(a * b for a, b in zip(LENGTHS, [1, 2, 0], strict=True)) * 2 * E


def test_queries_that_are_not_all_in_use_are_refused():
    q, k, v, ends, _ = packed()
    used = torch.tensor([1, 2, 0], dtype=torch.int32)
    with pytest.raises(FormulaError):
        forward("FlashAttnVarlenFunc", q, q, k, v, *ends, used, None, 4, 5, None, False)
    with pytest.raises(FormulaError):
        forward("FlashAttnFunc", q, q, k, v, *TWO)


def operator(name, *args):
    return BUILTIN.find([name])[0].price(None, *args)


def test_the_operators_count_what_the_functions_do():
    q, k, v = dense()
    expected = reference(q, k, v)
    tail = (0.0, 1.0, False, -1, -1, 0.0, None, False)
    assert operator("flash_attn._flash_attn_forward", q, k, v, *tail) == expected[0]
    assert operator("flash_attn._flash_attn_backward", q, q, k, v, q, q, q, k, v, *tail) == expected[1]
    assert operator("xformers_flash.flash_fwd", q, k, v, None, None, None, L, S, *tail[:5], False, None) == expected[0]
    q, k, v, ends, expected = packed()
    assert operator("flash_attn._flash_attn_varlen_forward", q, k, v, *ends, 4, 5, *tail) == expected[0]
    backward_args = (q, q, k, v, q, q, q, k, v, *ends, 4, 5, *tail)
    assert operator("flash_attn._flash_attn_varlen_backward", *backward_args) == expected[1]
    assert operator("xformers_flash.flash_fwd", q, k, v, *ends, None, 4, 5, *tail[:5], False, None) == expected[0]
    assert operator("xformers_flash.flash_bwd", False, q, q, k, v, q, q, *ends, 4, 5, *tail[:5], q) == expected[1]


def test_a_call_is_counted_forward_and_backward_in_the_family_of_attention():
    q, k, v = wanting(*dense())
    counter = count(stand_in("FlashAttnFunc", lambda q, *_: q.shape, {0, 1, 2}), q, k, v, *TWO)
    forward_cost, backward_cost = reference(q, k, v)
    by = counter.by_operator()
    assert by["autograd.FlashAttnFunc"].macs == forward_cost.macs
    assert by["autograd.FlashAttnFuncBackward"].macs == backward_cost.macs
    families = {record.family for record in counter.profile.records if record.cost.macs}
    assert families == {"attention"}


def hopper(q, k, v, *, causal=False, **options):
    names = (
        "k_new v_new q_v out cu_seqlens_q cu_seqlens_k cu_seqlens_k_new seqused_q seqused_k max_seqlen_q max_seqlen_k "
        "page_table kv_batch_idx leftpad_k rotary_cos rotary_sin seqlens_rotary q_descale k_descale v_descale"
    ).split()
    return operator("flash_attn_3.fwd", q, k, v, *(options.get(name) for name in names), 1.0, causal, -1, -1, 0)


@pytest.mark.parametrize("causal", [False, True])
def test_the_operator_of_version_3_counts_what_the_functions_do(causal):
    q, k, v = dense()
    assert hopper(q, k, v, causal=causal) == reference(q, k, v, causal)[0]
    tail = (None, None, None, None, L, S, 1.0, causal)
    assert operator("flash_attn_3.bwd", q, q, k, v, q, q, q, k, v, *tail) == reference(q, k, v, causal)[1]
    q, k, v, ends, expected = packed()
    bounds = {"cu_seqlens_q": ends[0], "cu_seqlens_k": ends[1], "max_seqlen_q": 4, "max_seqlen_k": 5}
    assert hopper(q, k, v, **bounds) == expected[0]
    assert operator("flash_attn_3.bwd", q, q, k, v, q, q, q, k, v, *ends, None, None, 4, 5, 1.0) == expected[1]


def test_a_paged_cache_counts_the_keys_in_use_and_is_refused_without_them():
    q, pages = torch.rand(2, 1, H, E), torch.rand(9, 16, KV, E)
    table, used = torch.zeros(2, 3, dtype=torch.int32), torch.tensor([20, 33], dtype=torch.int32)
    cost = hopper(q, pages, pages, page_table=table, seqused_k=used)
    assert cost.macs == H * (20 + 33) * 2 * E
    fourth = (None, None, None, used, table, None, False)
    assert forward("FlashAttnVarlenFunc", q, q, pages, pages, *fourth).macs == cost.macs
    with pytest.raises(FormulaError):
        hopper(q, pages, pages, page_table=table)
    with pytest.raises(FormulaError):
        forward("FlashAttnVarlenFunc", q, q, pages, pages, None, None, None, None, table, None, False)


def test_a_second_product_and_an_appended_cache_are_refused():
    q, k, v = dense()
    with pytest.raises(FormulaError):
        hopper(q, k, v, q_v=q)
    with pytest.raises(FormulaError):
        hopper(q, k, v, k_new=k)
    with pytest.raises(FormulaError):
        forward("FlashAttnFunc", q, q, k, v, None, False, q, None, None, None, (-1, -1), 0, 0.0)


QKV = "Tensor q, Tensor k, Tensor v"
SCALES = "float dropout_p, float softmax_scale, bool causal"
DENSE = (
    f"({QKV}, {SCALES}, SymInt window_size_left, SymInt window_size_right, float softcap, Tensor? alibi_slopes, "
    "bool return_softmax) -> (Tensor, Tensor)"
)
VARLEN = (
    f"({QKV}, Tensor cu_seqlens_q, Tensor cu_seqlens_k, SymInt max_seqlen_q, SymInt max_seqlen_k, {SCALES}, "
    "SymInt window_size_left=-1, SymInt window_size_right=-1, float softcap=0.0, Tensor? alibi_slopes=None, "
    "bool return_softmax=False, Tensor? block_table=None, Tensor? leftpad_k=None, Tensor? seqused_k=None, "
    "bool zero_tensors=False) -> Tensor"
)


@pytest.fixture(scope="module")
def _operators():
    """Define the operators with flash-attn's schemas, over kernels that nothing sees."""

    def run(q, *_args, **_options):
        return torch.from_numpy(q.numpy() + 1)

    def run_dense(q, *_args):
        return run(q), run(q[..., 0])

    torch.library.custom_op("flash_attn::_flash_attn_forward", run_dense, mutates_args=(), schema=DENSE)
    torch.library.custom_op("flash_attn::_flash_attn_varlen_forward", run, mutates_args=(), schema=VARLEN)


@pytest.mark.usefixtures("_operators")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_operators_themselves_are_accounted_for(mode):
    q, k, v = dense()
    with mode(), OpCounter(strict=True) as counter:
        torch.ops.flash_attn._flash_attn_forward(q, k, v, 0.0, 1.0, False, -1, -1, 0.0, None, False)
    assert counter.macs == reference(q, k, v)[0].macs
    q, k, v, ends, expected = packed()
    used = torch.tensor([1, 2, 0], dtype=torch.int32)
    with mode(), OpCounter(strict=True) as counter:
        torch.ops.flash_attn._flash_attn_varlen_forward(q, k, v, *ends, 4, 5, 0.0, 1.0, True)
        torch.ops.flash_attn._flash_attn_varlen_forward(q, k, v, *ends, 4, 5, 0.0, 1.0, True, seqused_k=used)
    cached = H * sum(a * b for a, b in zip(LENGTHS, [1, 2, 0], strict=True)) * 2 * E
    assert counter.macs == expected[0].macs + cached
