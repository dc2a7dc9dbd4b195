"""Fused attention: scores stay on the chip; a backward reads the log-sum of each query, and computes them anew.

Queries, keys and values have their own numbers of heads, and heads that are expanded are read once. State of random
number generators is left out, and so is what a kernel pads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import requested, touched_by
from opcount.traffic.written_out import bytes_of

if TYPE_CHECKING:
    from collections.abc import Sequence


_of_five, _of_seven = bytes_of(5), bytes_of(7)


def _log_sums(query: Tensor, logsumexp: Any) -> int:
    """Return the bytes of one number for each query of each head; a kernel may pad them."""
    if not isinstance(logsumexp, Tensor) or not logsumexp.numel():
        return 0
    return query.numel() // query.size(-1) * logsumexp.element_size() if query.numel() else 0


@traffic(
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
    aten._scaled_dot_product_fused_attention_overrideable,
    aten._flash_attention_forward,
    aten._efficient_attention_forward,
    aten._cudnn_attention_forward,
)
def attention(
    out: Sequence[Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    bias: Tensor | None = None,
    compute_log_sumexp: bool = True,
) -> tuple[int, int]:
    """``q``, ``k``, ``v`` and a mask are read; outputs and log-sums are written."""
    sums = _log_sums(query, out[1]) if compute_log_sumexp else 0
    return _of_five(query, key, value, attn_mask, bias if attn_bias is None else attn_bias), out[0].nbytes + sums


@traffic(
    aten._scaled_dot_product_flash_attention_backward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
    aten._scaled_dot_product_cudnn_attention_backward,
    aten._scaled_dot_product_fused_attention_overrideable_backward,
    aten._flash_attention_backward,
    aten._cudnn_attention_backward,
)
def attention_backward(
    result: Sequence[Any],
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    grad_input_mask: Sequence[bool] | None = None,
) -> tuple[int, int]:
    """``do``, ``q``, ``k``, ``v``, ``o`` and the log-sums are read; ``dq``, ``dk`` and ``dv`` are written."""
    read = _of_seven(grad_out, query, key, value, out, attn_mask, attn_bias) + _log_sums(query, logsumexp)
    return read, touched_by(requested(result, grad_input_mask))


@traffic(aten._scaled_dot_product_efficient_attention_backward, aten._efficient_attention_backward)
def efficient_attention_backward(
    result: Sequence[Any],
    grad_out_: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    attn_bias: Tensor | None = None,
    bias: Tensor | None = None,
    grad_input_mask: Sequence[bool] | None = None,
) -> tuple[int, int]:
    """``do``, ``q``, ``k``, ``v``, ``o`` and the log-sums are read; ``dq``, ``dk`` and ``dv`` are written."""
    read = _of_seven(grad_out_, query, key, value, out, attn_bias, bias) + _log_sums(query, logsumexp)
    return read, touched_by(requested(result, grad_input_mask))
