"""The kernels of flash-attn and xformers, as functions of autograd and as operators: attention like any other.

The counts are those of `attention`: a causal mask or a window saves nothing, heads that share keys save nothing, packed
sequences each count their own length, a backward computes the scores anew. Which argument is which is told by ranks: a
query is ``(b, l, h, e)``, or ``(total, h, e)`` with bounds of its sequences.

Sources: Dao-AILab/flash-attention 1.0 to 2.8 (``flash_attn_interface.py``, ``flash_attn_triton.py``), 3
(``hopper/flash_attn_interface.py``) and 4 (``cute/interface.py``); xformers 0.0.29 to 0.0.35 (``ops/fmha/flash.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount.formulas._operands import require
from opcount.formulas.attention import backward_cost, forward_cost, heads_second
from opcount.formulas.sizes import register, register_function
from opcount.registry import OperatorNames

if TYPE_CHECKING:
    from opcount.cost import Cost
    from opcount.registry import Pricing

flash_attn, hopper = OperatorNames("flash_attn"), OperatorNames("flash_attn_3")
xformers = OperatorNames("xformers_flash")

_FUNCTIONS = "FlashAttnFunc FlashAttnVarlenFunc FlashAttnFP8Func FlashAttnVarlenFP8Func"
_KV_PACKED = "FlashAttnKVPackedFunc FlashAttnVarlenKVPackedFunc"
_QKV_PACKED = (
    "FlashAttnQKVPackedFunc FlashAttnVarlenQKVPackedFunc FlashAttnQKVPackedFP8Func FlashAttnVarlenQKVPackedFP8Func"
)


class _Part(NamedTuple):
    """One of the tensors that lie packed in another."""

    shape: tuple[int, ...]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)


def _part(packed: Any, n: int) -> _Part:
    """Return a part of ``(..., n, h, e)``."""
    require(packed.dim() >= 4 and packed.shape[-3] == n, f"{n} tensors packed as (..., {n}, h, e)", packed)
    return _Part((*packed.shape[:-3], *packed.shape[-2:]))


def _sizes(q: Any, k: Any, v: Any, args: tuple[Any, ...]) -> tuple[int, int, int, int]:
    """Return rows, scores, ``e`` and ``ev``; ``args`` is what follows the tensors."""
    q_ends, k_ends, q_used, k_used = (*(arg if _is_index(arg) else None for arg in args[:4]), *[None] * 4)[:4]
    require(q_used is None, "all queries in use", q_used)
    require(not any(_is_bias(arg) and arg.dim() > 2 for arg in args[1:]), "no second product (qv)", args)
    if q.dim() == 4:
        paged = len(args) > 4 and _is_index(args[4])
        require(k.dim() == v.dim() == 4 and (k_used is not None or not paged), "q, k and v of shape (b, l, h, e)", k)
        return heads_second(q, k, v, None, None, None, k_used)
    require(q.dim() == 3 and q_ends is not None, "q of shape (b, l, h, e), or of (total, h, e) and its bounds", q)
    longest = [arg for arg in args[2:6] if type(arg) is int]
    return heads_second(q, k, v, q_ends, k_ends, longest[1] if len(longest) > 1 else None, k_used)


def _is_index(arg: object) -> bool:
    return isinstance(arg, torch.Tensor) and not arg.is_floating_point()


def _is_bias(arg: object) -> bool:
    return isinstance(arg, torch.Tensor) and arg.is_floating_point()


def _is_masked(args: tuple[Any, ...]) -> bool:
    """Return whether the call is causal, which is its first flag, or adds to the scores.

    A bias is the first argument. Slopes come behind the flag, where two numbers stand before it, a dropout and a scale;
    other versions have scales of 8-bit operands there.
    """
    at = next((i for i, arg in enumerate(args) if isinstance(arg, bool)), None)
    if at is None or args[at] or _is_bias(args[0]):
        return at is not None
    return at > 1 and isinstance(args[at - 2], float) and any(map(_is_bias, args[at:]))


def _is_causal(args: tuple[Any, ...]) -> bool:
    return next((arg for arg in args if isinstance(arg, bool)), False)


def function(_out: object, q: Any, k: Any, v: Any, /, *args: Any) -> Cost:
    """``out = softmax(q @ k.T * scale + mask) @ v``: ``b h l s (e + ev)`` MACs, for each sequence its own."""
    return forward_cost(*_sizes(q, k, v, args), _is_masked(args), _is_causal(args))


def function_backward(_out: object, q: Any, k: Any, v: Any, /, *args: Any) -> Cost:
    """``p = softmax(q @ k.T)`` anew, ``dv = p.T @ do``, ``dp = do @ v.T``, ``dq = ds @ k``, ``dk = ds.T @ q``."""
    return backward_cost(*_sizes(q, k, v, args), _is_causal(args))


def _unpack_kv(price: Pricing) -> Pricing:
    def unpacked(out: Any, q: Any, kv: Any, /, *args: Any) -> Cost:
        return price(out, q, _part(kv, 2), _part(kv, 2), *args)

    return _documented(unpacked, price)


def _unpack_qkv(price: Pricing) -> Pricing:
    def unpacked(out: Any, qkv: Any, /, *args: Any) -> Cost:
        part = _part(qkv, 3)
        if part.dim() == 3:  # one tensor of bounds and one length serve both
            args = (args[0], args[0], args[1], args[1], *args[2:])
        return price(out, part, part, part, *args)

    return _documented(unpacked, price)


def _documented(price: Pricing, like: Pricing) -> Pricing:
    price.__doc__ = like.__doc__
    return price


register_function("attention", _FUNCTIONS, function, function_backward)
register_function("attention", _KV_PACKED, _unpack_kv(function), _unpack_kv(function_backward))
register_function("attention", _QKV_PACKED, _unpack_qkv(function), _unpack_qkv(function_backward))


def operator_forward(out: object, q: Any, k: Any, v: Any, /, *args: Any, **_: object) -> Cost:
    """As `function`."""
    return function(out, q, k, v, *args)


def varlen_forward(_out: object, q: Any, k: Any, v: Any, /, *args: Any, **options: Any) -> Cost:
    """As `function`, for each sequence; of a cache the keys in use count, where they are told."""
    used = args[_SEQUSED_K] if len(args) > _SEQUSED_K else options.get("seqused_k")
    return forward_cost(*heads_second(q, k, v, args[0], args[1], args[3], used), _is_masked(args), _is_causal(args))


_SEQUSED_K = 14


def operator_backward(_out: object, _grad: Any, q: Any, k: Any, v: Any, /, *args: Any, **_: object) -> Cost:
    """The five products of `function_backward`."""
    return backward_cost(*heads_second(q, k, v, None, None, None), _is_causal(args))


def varlen_backward(_out: object, _grad: Any, q: Any, k: Any, v: Any, /, *args: Any, **_: object) -> Cost:
    """The five products of `function_backward`, for each sequence; ``args``: out, log-sums, three gradients, bounds."""
    return backward_cost(*_sizes(q, k, v, args[5:]), _is_causal(args))


def xformers_forward(_out: object, q: Any, k: Any, v: Any, /, *args: Any, **_: object) -> Cost:
    """As `function`; bounds, keys in use and lengths may be absent."""
    q_ends, k_ends, k_used, _max_q, max_k = args[:5]
    return forward_cost(*heads_second(q, k, v, q_ends, k_ends, max_k, k_used), _is_masked(args), _is_causal(args))


def xformers_backward(_out: object, _shared: bool, _grad: Any, q: Any, k: Any, v: Any, /, *args: Any) -> Cost:
    """The five products of `function_backward`, for each sequence."""
    q_ends, k_ends, _max_q, max_k = args[2:6]
    return backward_cost(*heads_second(q, k, v, q_ends, k_ends, max_k), _is_causal(args))


def hopper_forward(_out: object, q: Any, k: Any, v: Any, /, *args: Any, **_: object) -> Cost:
    """As `function`; a call that appends to a cache, or adds a second product, is not counted: named."""
    k_new, _v_new, q_v, _y, q_ends, k_ends, _new_ends, q_used, k_used, _max_q, max_k, pages, _index, padding = (
        *args,
        *[None] * 14,
    )[:14]
    require(all(arg is None for arg in (k_new, q_v, q_used, padding)), "queries, keys and values alone", args)
    require(pages is None or k_used is not None or k_ends is not None, "lengths of paged keys", pages)
    return forward_cost(*heads_second(q, k, v, q_ends, k_ends, max_k, k_used), False, _is_causal(args))


def hopper_backward(_out: object, _grad: Any, q: Any, k: Any, v: Any, /, *args: Any, **_: object) -> Cost:
    """The five products of `function_backward`; ``args``: out, log-sums, three gradients, bounds, used, lengths."""
    q_ends, k_ends, q_used, k_used, _max_q, max_k = (*args[5:11], *[None] * 6)[:6]
    require(q_used is None, "all queries in use", q_used)
    return backward_cost(*heads_second(q, k, v, q_ends, k_ends, max_k, k_used), _is_causal(args))


register("attention", hopper_forward, [hopper.fwd])
register("attention", hopper_backward, [hopper.bwd])
register("attention", operator_forward, [flash_attn._flash_attn_forward])
register("attention", varlen_forward, [flash_attn._flash_attn_varlen_forward])
register("attention", operator_backward, [flash_attn._flash_attn_backward])
register("attention", varlen_backward, [flash_attn._flash_attn_varlen_backward])
register("attention", xformers_forward, [xformers.flash_fwd])
register("attention", xformers_backward, [xformers.flash_bwd])
