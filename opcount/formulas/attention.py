"""Scaled dot-product attention: each query meets each key once, and each score meets each value once.

With ``b`` batches, ``h`` query heads, ``l`` queries, ``s`` keys, and vectors of ``e`` and ``ev``, whatever the kernel:
``b h l s (e + ev)`` MACs, ``b h l s`` scores and ``b h l ev`` outputs as activations, and for each score 5 operations
of the softmax, one of the scale and one of a mask. That is what the operator does when it is decomposed: a causal
mask or a window saves nothing, heads that share keys save nothing, and dropout is not counted.

A backward kernel computes the scores anew, so that it runs five products: ``b h l s (3 e + 2 ev)``. For each score it
counts 6: scale, difference to the log-sum, exponential, and ``p * (dp - d) * scale``; ``d = sum(dout * out)`` is 2 for
each output.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas._operands import host_ints, nested_sizes
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor


def forward_cost(rows: int, scores: int, e: int, ev: int, masked: bool, causal: bool = False) -> Cost:
    """Price attention with so many rows of queries and scores."""
    macs = scores * (e + ev)
    return Cost(macs, scores * (7 if masked or causal else 6), scores + rows * ev, causal=macs if causal else 0)


def backward_cost(rows: int, scores: int, e: int, ev: int, causal: bool = False) -> Cost:
    """Price the five products of a fused backward, the first of which is the forward's once more."""
    repeated, macs = scores * e, 2 * scores * (e + ev)
    return Cost(repeated + macs, 6 * scores + 2 * rows * ev, repeated=repeated, causal=macs if causal else 0)


def _heads_first(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int, int, int]:
    """Return rows, scores, ``e`` and ``ev`` of ``(..., h, l, e)``, or of a nested tensor of ``(h, l, e)``."""
    if q.is_nested:
        return _components(q, k, v)
    *batch, e = q.shape
    rows = prod(batch)
    return rows, rows * k.shape[-2], e, v.shape[-1]


def _components(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int, int, int]:
    sizes = list(zip(nested_sizes(q), nested_sizes(k), nested_sizes(v), strict=True))
    rows = [prod(size[:-1]) for size, *_ in sizes]
    scores = sum(n * keys[-2] for n, (_, keys, _) in zip(rows, sizes, strict=True))
    return sum(rows), scores, sizes[0][0][-1], sizes[0][2][-1]


def heads_second(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_ends: Tensor | None,
    k_ends: Tensor | None,
    max_k: int | None,
    k_used: Tensor | None = None,
) -> tuple[int, int, int, int]:
    """Return rows, scores, ``e`` and ``ev`` of ``(b, l, h, e)``, or of sequences that lie one behind the other.

    Of these ``q_ends`` and ``k_ends`` bound the sequences. Where they hold no numbers (fake tensors) every query
    meets ``max_k`` keys.
    """
    *_, heads, e = q.shape
    rows, ev = prod(q.shape[:-1]), v.shape[-1]
    used = host_ints(k_used)
    ends = host_ints(q_ends)
    if ends is None:
        keys = k.shape[1] if q_ends is None else max_k
        if used is not None and q_ends is None:
            return rows, sum(used) * q.shape[1] * heads, e, ev
        return rows, rows * (keys or k.shape[-3]), e, ev
    keys_of = used or _lengths(host_ints(k_ends) or ends)
    return rows, heads * sum(a * b for a, b in zip(_lengths(ends), keys_of, strict=False)), e, ev


def _forms(q: Tensor, k: Tensor, v: Tensor, q_ends: Tensor | None, *bounds: Any) -> tuple[int, int, int, int]:
    """Return the sizes of cuDNN's operators, whose dense form has its heads first; it passes no ends, or empty ones."""
    if q_ends is None or q_ends.numel() == 0:
        return _heads_first(q, k, v)
    return heads_second(q, k, v, q_ends, *bounds)


def _lengths(ends: list[int]) -> list[int]:
    return [end - start for start, end in pairwise(ends)]


@formula(aten._scaled_dot_product_flash_attention_for_cpu, aten.scaled_dot_product_attention)
@formula(aten._scaled_dot_product_attention_math, aten._scaled_dot_product_attention_math_for_mps)
def masked(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, attn_mask: Tensor | None) -> Cost:
    """``out = softmax(q @ k.T * scale + mask) @ v``: ``b h l s (e + ev)`` MACs."""
    return forward_cost(*_heads_first(query, key, value), attn_mask is not None, is_causal)


@formula(aten._scaled_dot_product_flash_attention)
def flash(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Cost:
    """``out = softmax(q @ k.T * scale + mask) @ v``: ``b h l s (e + ev)`` MACs; scales of operands are folded in."""
    return forward_cost(*_heads_first(query, key, value), False, is_causal)


@formula(aten._triton_scaled_dot_attention)
def triton(q: Tensor, k: Tensor, v: Tensor) -> Cost:
    """``out = softmax(q @ k.T * scale) @ v``: ``b h l s (e + ev)`` MACs."""
    return forward_cost(*_heads_first(q, k, v), masked=False)


@formula(aten._scaled_dot_product_efficient_attention, aten._scaled_dot_product_cudnn_attention)
@formula(aten._scaled_dot_product_fused_attention_overrideable)
def efficient(
    query: Tensor, key: Tensor, value: Tensor, attn_bias: Tensor | None = None, is_causal: bool = False
) -> Cost:
    """``out = softmax(q @ k.T * scale + bias) @ v``: ``b h l s (e + ev)`` MACs."""
    return forward_cost(*_heads_first(query, key, value), attn_bias is not None, is_causal)


@formula(aten._flash_attention_forward, aten._flash_attention_forward_no_dropout_inplace)
def flash_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_k: int,
    is_causal: bool,
    seqused_k: Tensor | None = None,
) -> Cost:
    """``out = softmax(q @ k.T * scale + mask) @ v`` for each sequence: the sum of its ``h l s (e + ev)``.

    Of a cache the keys in use count, where they are told.
    """
    return forward_cost(*heads_second(query, key, value, cum_seq_q, cum_seq_k, max_k, seqused_k), False, is_causal)


@formula(aten._efficient_attention_forward)
def efficient_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    custom_mask_type: int,
    seqlen_k: Tensor | None,
    max_seqlen_k: int | None = None,  # from PyTorch 2.2 on
) -> Cost:
    """``out = softmax(q @ k.T * scale + bias) @ v`` for each sequence: the sum of its ``h l s (e + ev)``."""
    return forward_cost(
        *heads_second(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_k, seqlen_k),
        bias is not None,
        custom_mask_type != 0,
    )


@formula(aten._cudnn_attention_forward)
def cudnn_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_k: int,
    is_causal: bool,
    attn_bias: Tensor | None = None,
    seqused_k: Tensor | None = None,
) -> Cost:
    """``out = softmax(q @ k.T * scale + bias) @ v``, dense as ``(b, h, l, e)`` or for each sequence.

    Of a cache the keys in use count, where they are told.
    """
    sizes = _forms(query, key, value, cum_seq_q, cum_seq_k, max_k, seqused_k)
    return forward_cost(*sizes, attn_bias is not None, is_causal)


@formula(aten._cudnn_attention_forward_no_dropout_inplace)
def cudnn_forward_inplace(
    _log_sum: object,
    _written: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_ends: Tensor,
    k_ends: Tensor | None,
    _max_q: int,
    max_k: int,
    causal: bool = False,
    /,
    *_: object,
    seqused_k: Tensor | None = None,
    **__: object,
) -> Cost:
    """``out = softmax(q @ k.T * scale + mask) @ v`` for each sequence, into a tensor that is given.

    Of a cache the keys in use count, where they are told.
    """
    return forward_cost(*heads_second(q, k, v, q_ends, k_ends, max_k, seqused_k), False, causal)


@formula(aten._scaled_dot_product_flash_attention_backward, aten._scaled_dot_product_flash_attention_for_cpu_backward)
@formula(aten._scaled_dot_product_efficient_attention_backward, aten._scaled_dot_product_cudnn_attention_backward)
@formula(aten._scaled_dot_product_fused_attention_overrideable_backward)
def backward(query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False) -> Cost:
    """``p = softmax(q @ k.T)`` anew, ``dv = p.T @ do``, ``dp = do @ v.T``, ``dq = ds @ k``, ``dk = ds.T @ q``."""
    return backward_cost(*_heads_first(query, key, value), is_causal)


@formula(aten._flash_attention_backward)
def flash_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_k: int,
    is_causal: bool,
) -> Cost:
    """The five products of `backward`, for each sequence."""
    # Dense attention passes empty ends.
    bounded = cum_seq_q is not None and cum_seq_q.numel() > 0
    return backward_cost(*heads_second(query, key, value, cum_seq_q if bounded else None, cum_seq_k, max_k), is_causal)


@formula(aten._efficient_attention_backward)
def efficient_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_k: int,
    custom_mask_type: int,
) -> Cost:
    """The five products of `backward`, for each sequence."""
    sizes = heads_second(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_k)
    return backward_cost(*sizes, custom_mask_type != 0)


@formula(aten._cudnn_attention_backward)
def cudnn_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_k: int,
    is_causal: bool,
) -> Cost:
    """The five products of `backward`, dense as ``(b, h, l, e)`` or for each sequence."""
    return backward_cost(*_forms(query, key, value, cum_seq_q, cum_seq_k, max_k), is_causal)


@formula(aten._transform_bias_rescale_qkv)
def transform_bias_rescale_qkv(qkv: Tensor) -> Cost:
    """``q = (q + bias) * scale``, ``k + bias``, ``v + bias``: the opening of PyTorch's fused multi-head attention."""
    n = qkv.numel()
    return Cost(0, n + n // 3)


def _multi_head(q: Tensor, k: Tensor, heads: int, extra: int) -> Cost:
    """Price the projections of ``(b, n, d)``, with bias, around attention; ``extra`` operations for each score."""
    b, l, d = q.shape  # noqa: E741
    s = k.shape[1]
    projected = (2 * b * l + 2 * b * s) * d
    scores = b * heads * l * s
    return Cost(projected * d + 2 * b * l * s * d, projected + scores * extra, projected + scores + b * l * d)


@formula(aten._native_multi_head_attention, aten._triton_multi_head_attention, sealed=True)
def multi_head(query: Tensor, key: Tensor, num_head: int, mask: Tensor | None) -> Cost:
    """``out = attention(q @ wq, k @ wk, v @ wv) @ wo``, with biases: 4 projections and two products."""
    return _multi_head(query, key, num_head, 6 if mask is None else 7)


@formula(aten._transformer_encoder_layer_fwd, sealed=True)
def encoder_layer(src: Tensor, embed_dim: int, num_heads: int, ffn_weight_1: Tensor, mask: Tensor | None) -> Cost:
    """``x += attention(norm(x))``, ``x += activation(norm(x) @ w1) @ w2``, or the norms behind the sums.

    Two norms of 5 and two sums for each element, a bias and an activation for each hidden one, and a bias for each
    output. A convention that counts norms alone cannot tell these from the rest.
    """
    n = src.numel()
    hidden = n // (embed_dim or 1) * ffn_weight_1.shape[0]
    rest = Cost(2 * hidden * embed_dim, 2 * hidden + n + 2 * 5 * n + 2 * n, hidden + n)
    return _multi_head(src, src, num_heads, 6 if mask is None else 7) + rest
