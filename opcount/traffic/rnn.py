"""Recurrent layers: inputs, weights and states once; kernels that are not persistent read the weights at each step.

What a kernel keeps for its backward is left out: its size is known to the kernel alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import requested, touched_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@traffic(aten.mkldnn_rnn_layer)
def mkldnn_rnn_layer(
    out: Sequence[Any],
    input: Tensor,
    weight0: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    weight3: Tensor,
    hx_: Tensor,
    cx_: Tensor,
    has_biases: bool,
) -> tuple[int, int]:
    """Inputs, weights and states; outputs and the last states."""
    biases = (weight2, weight3) if has_biases else ()
    return touched_by((input, weight0, weight1, *biases, hx_, cx_)), touched_by(out[:3])


@traffic(aten.mkldnn_rnn_layer_backward)
def mkldnn_rnn_layer_backward(
    out: Sequence[Any],
    input: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    hx_: Tensor,
    cx_tmp: Tensor,
    output: Tensor,
    hy_: Tensor,
    cy_: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
) -> tuple[int, int]:
    """Gradients, inputs, weights, states and outputs; the gradients of inputs, weights and states."""
    gradients = (grad_output, grad_hy, grad_cy)
    read = touched_by((gradients, input, weight1, weight2, hx_, cx_tmp, output, hy_, cy_))
    return read, touched_by((*out[:4], *out[5:]))  # one gradient serves both biases


@traffic(aten._cudnn_rnn, aten.miopen_rnn)
def rnn(out: Sequence[Any], input: Tensor, weight: list[Tensor], hx: Tensor, cx: Tensor | None) -> tuple[int, int]:
    """Inputs, weights and states; outputs and the last states. The buffer of all weights is these weights."""
    return touched_by((input, weight, hx, cx)), touched_by(out[:3])


@traffic(aten._cudnn_rnn_backward, aten.miopen_rnn_backward)
def rnn_backward(
    out: Sequence[Any],
    input: Tensor,
    weight: list[Tensor],
    hx: Tensor,
    cx: Tensor | None,
    output: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    output_mask: Sequence[bool],
) -> tuple[int, int]:
    """Gradients, inputs, weights, states and outputs; the gradients of inputs, weights and states."""
    gradients = (grad_output, grad_hy, grad_cy)
    return touched_by((gradients, input, weight, hx, cx, output)), touched_by(requested(out, output_mask))
