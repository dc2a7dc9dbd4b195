"""Scaled dot product attention as PyTorch runs it on a CUDA device: which kernel it chooses, and what that keeps.

The rules are those of ``sdp_utils.cpp``, for dense tensors: the first kernel of an order that suits the call.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from opcount._torch.attention import CUDNN_FIRST, DEFAULT_ORDER, cudnn_enabled, order_of_kernels
from opcount._torch.dispatch import FLASH_ATTENTION, aten

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

MATH, FLASH, EFFICIENT, CUDNN = range(4)
"""Kernels, by their numbers in ``torch.nn.attention.SDPBackend``."""

_OPERATORS = {
    CUDNN: "_scaled_dot_product_cudnn_attention.default",
    EFFICIENT: "_scaled_dot_product_efficient_attention.default",
    MATH: "_scaled_dot_product_attention_math.default",
}
_HALVES = {torch.float16, torch.bfloat16}
_FLASH_ALIGNMENT = 8
_BIAS_ALIGNMENT = 8
_HOPPER, _AMPERE = (9, 0), (8, 0)


class AttentionCall(NamedTuple):
    """A call of ``scaled_dot_product_attention``, with the names of its arguments.

    Attributes:
        query: ``(n, heads, l, e)``
        key: ``(n, heads, s, e)``
        value: ``(n, heads, s, ev)``
        attn_mask: Broadcast to ``(n, heads, l, s)``; a mask of flags, or what is added to the scores.
        dropout_p: Rate of dropout of the scores.
        is_causal: Whether queries see what comes before them only.
        scale: Of the scores; None: one over the square root of ``e``.
        enable_gqa: Whether several heads of queries share one of keys and values.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of all three; None if they differ."""
        dtypes = {tensor.dtype for tensor in self[:3]}
        return dtypes.pop() if len(dtypes) == 1 else None

    @property
    def needs_gradients(self) -> bool:
        """True if a backward may follow."""
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self[:3])

    def suits_fused(self, *, gqa: bool, one_size: bool = True) -> bool:
        """Return whether the shapes suit a fused kernel.

        Args:
            gqa: Whether several heads of queries may share one of keys.
            one_size: Whether keys and values need as many heads.
        """
        query, key, value = self[:3]
        if not query.dim() == key.dim() == value.dim() == 4 or not query.shape[2] or not key.shape[2]:
            return False
        if not query.shape[0] == key.shape[0] == value.shape[0]:
            return False
        heads = [tensor.shape[1] for tensor in self[:3]]
        if self.enable_gqa and gqa:
            shared = all(each and heads[0] % each == 0 for each in heads[1:])
            return shared and (heads[1] == heads[2] or not one_size)
        return len(set(heads)) == 1

    def is_dense_in_the_end(self, *, single: bool) -> bool:
        """Return whether the last dimensions have stride 1; with ``single`` those of one element too."""
        dense = all(tensor.stride(-1) == 1 for tensor in self[:3]) or (single and self.query.shape[-1] == 1)
        return dense and (self.attn_mask is None or self.attn_mask.stride(-1) == 1)


def attention(capability: tuple[int, int], run: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """AttentionCall the operator that a device of this compute capability runs.

    Args:
        capability: Of the device.
        run: Runs the call as on the CPU, with its checks and errors.
        args: See `AttentionCall`.
        kwargs: See `AttentionCall`.
    """
    call = AttentionCall(*args, **kwargs)
    if not _is_plain(call):
        return run(*args, **kwargs)
    kernel = attention_kernel(call, capability)
    if kernel == FLASH:
        return _flash(call)
    bias = _bias(call.attn_mask, call.query.dtype)
    if kernel == EFFICIENT and bias is not None:
        bias = _aligned(bias).expand(*call.query.shape[:3], call.key.shape[2])
    how: list[Any] = [call.dropout_p, call.is_causal]
    how = [*how, None] if kernel == MATH else [call.needs_gradients, *how]
    shared = {"enable_gqa": True} if kernel == MATH and call.enable_gqa else {}
    out: Tensor = aten(_OPERATORS[kernel])(*call[:3], bias, *how, scale=call.scale, **shared)[0]
    return out


def attention_kernel(call: AttentionCall, capability: tuple[int, int]) -> int:
    """Return the number of the kernel that PyTorch chooses."""
    suits = {CUDNN: _suits_cudnn, FLASH: _suits_flash, EFFICIENT: _suits_efficient}
    order = order_of_kernels()
    if order == DEFAULT_ORDER and CUDNN_FIRST and capability[0] in {9, 10}:
        order = [CUDNN, FLASH, EFFICIENT, MATH]
    for kernel in order:
        if kernel == MATH and torch.backends.cuda.math_sdp_enabled():
            return MATH
        if kernel in suits and suits[kernel](call, capability):
            return kernel
    return MATH


def _is_plain(call: AttentionCall) -> bool:
    """Return whether PyTorch accepts a call of tensors whose sizes are known."""
    given = [tensor for tensor in call[:4] if isinstance(tensor, torch.Tensor)]
    if any(tensor.is_nested or any(type(n) is not int for n in tensor.shape) for tensor in given):
        return False
    mask = call.attn_mask
    if mask is not None and (call.is_causal or mask.dtype not in {torch.bool, torch.float32, call.query.dtype}):
        return False
    return call.dtype is not None and all(tensor.dim() > 1 for tensor in call[:3])


def _suits_flash(call: AttentionCall, capability: tuple[int, int]) -> bool:
    sizes = {tensor.shape[-1] for tensor in call[:3]}
    size = max(sizes)
    if not torch.backends.cuda.flash_sdp_enabled() or call.attn_mask is not None or len(sizes) > 1 or size > 256:
        return False
    if capability < _AMPERE or call.dtype not in _HALVES:
        return False
    small = (8, 6) <= capability <= (8, 9) or capability[0] == 12
    if small and call.needs_gradients and 192 < size <= (256 if call.dropout_p else 224):
        return False
    if call.is_causal and call.query.shape[-2] != call.key.shape[-2]:
        return False
    return call.suits_fused(gqa=True) and call.is_dense_in_the_end(single=True)


def _suits_efficient(call: AttentionCall, capability: tuple[int, int]) -> bool:
    dtypes = {torch.float16, torch.float32} | (_HALVES if capability >= _AMPERE else set())
    if not torch.backends.cuda.mem_efficient_sdp_enabled() or call.dtype not in dtypes:
        return False
    is_half = call.dtype in _HALVES
    alignment = 4 if capability >= _AMPERE else 1
    if capability >= _AMPERE or (capability[0] == 7 and is_half):
        alignment = max(alignment, 8 if is_half else 4)
    sizes = [tensor.shape[-1] for tensor in call[:3]]
    if sizes[0] != sizes[1] or any(not size or size % alignment for size in sizes):
        return False
    return call.suits_fused(gqa=False) and call.is_dense_in_the_end(single=False)


def _suits_cudnn(call: AttentionCall, capability: tuple[int, int]) -> bool:
    if not cudnn_enabled() or call.dtype not in _HALVES or capability < _AMPERE:
        return False
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        return False
    if (16 * call.dropout_p) % 1 or not call.suits_fused(gqa=True, one_size=False):
        return False
    if not call.is_dense_in_the_end(single=True) or not _suits_mask(call):
        return False
    query, key, value = call[:3]
    sizes = query.shape[-1], value.shape[-1]
    fits = max(sizes) <= 128 or (sizes == (192, 128) and (capability == _HOPPER or capability[0] == 10))
    if not fits or any(size % 8 for size in sizes) or max(query.shape[:2]) > 65535:
        return False
    return key.shape[2] != 1 and not (call.dropout_p and query.shape[2] == 1)


def _suits_mask(call: AttentionCall) -> bool:
    """Return whether cuDNN takes the mask."""
    mask = call.attn_mask
    if mask is None:
        return True
    full = (*call.query.shape[:3], call.key.shape[2])
    if mask.requires_grad or mask.dim() not in {2, 4}:
        return False
    return all(size in {1, of} for size, of in zip(mask.shape, full[-mask.dim() :], strict=True))


def _flash(call: AttentionCall) -> Tensor:
    """Run flash attention on heads that are padded to a multiple of eight."""
    size = call.query.shape[-1]
    padding = -size % _FLASH_ALIGNMENT
    operands = (functional.pad(t, (0, padding)) if padding else t for t in call[:3])
    scale = size**-0.5 if call.scale is None else call.scale
    out: Tensor = FLASH_ATTENTION(*operands, call.dropout_p, call.is_causal, return_debug_mask=False, scale=scale)[0]
    return out[..., :size] if padding else out


def _bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what is added to the scores."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.scalar_tensor(-inf, dtype=dtype, device=mask.device))


def _aligned(bias: Tensor) -> Tensor:
    """Return a bias whose rows begin at multiples of eight elements: a copy where they do not."""
    if bias.stride(-1) == 1 and not any(stride % _BIAS_ALIGNMENT for stride in bias.stride()[:-1]):
        return bias
    size = bias.shape[-1]
    return functional.pad(bias, (0, _BIAS_ALIGNMENT - size % _BIAS_ALIGNMENT))[..., :size]
