"""Shape functions for operators whose CUDA kernels return something else than those of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_HALVES = {torch.float16, torch.bfloat16}


def norm_in_float32(func: Any, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Return the shape function's result with statistics in float32 where the input has fewer bits."""
    out, *statistics = func(x, *args)
    layout = torch.empty_like(x) if out.shape == x.shape else out
    if x.dtype in _HALVES:
        statistics = [torch.empty(t.shape, dtype=torch.float32, device=t.device) for t in statistics]
    return layout, *statistics


def rms_norm(_func: Any, x: Tensor, shape: list[int], *_: Any) -> tuple[Tensor, Tensor]:
    """Return an empty result, and one reciprocal root for each normalized part."""
    sizes = (*x.shape[: x.dim() - len(shape)], *[1] * len(shape))
    dtype = torch.float32 if x.dtype in _HALVES else x.dtype
    return torch.empty_like(x), torch.empty(sizes, dtype=dtype, device=x.device)


def rms_norm_backward(
    _func: Any, _grad: Tensor, x: Tensor, _shape: Any, _root: Tensor, weight: Tensor | None, mask: list[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients that are asked for."""
    asked = zip((x, weight), mask, strict=True)
    return tuple(torch.empty_like(each) if wanted and each is not None else None for each, wanted in asked)


def gru_cell_outputs(
    _func: Any, _input_gates: Tensor, _hidden_gates: Tensor, h: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    """Return an empty state, and what backward needs of five gates."""
    return torch.empty_like(h), h.new_empty(h.shape[0], 5 * h.shape[1])


def gru_cell_backward(
    _func: Any,
    grad: Tensor,
    _workspace: Tensor,
    has_bias: bool,  # noqa: FBT001  (PyTorch's signature)
) -> tuple[Tensor | None, ...]:
    """Return the gradients of both products, of the state and of the biases."""
    rows, width = grad.shape
    biases = [grad.new_empty(3 * width) if has_bias else None for _ in range(2)]
    return grad.new_empty(rows, 3 * width), grad.new_empty(rows, 3 * width), torch.empty_like(grad), *biases


CORRECTED_ON_CUDA: dict[str, Callable[..., Any]] = {
    "aten.native_layer_norm.default": norm_in_float32,
    "aten.native_batch_norm.default": norm_in_float32,
    "aten._fused_rms_norm.default": rms_norm,
    "aten._fused_rms_norm_backward.default": rms_norm_backward,
    "aten._thnn_fused_gru_cell.default": gru_cell_outputs,
    "aten._thnn_fused_gru_cell_backward.default": gru_cell_backward,
}
"""By operator."""
