"""Recurrent layers: inputs, weights and states once; non-persistent kernels read the weights at each step.

What a kernel keeps for its backward is left out: its size is known to the kernel alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import touched_by

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
) -> tuple[int, int]:
    """Inputs, weights and states; outputs and the last states."""
    return touched_by((input, weight0, weight1, weight2, weight3, hx_, cx_)), touched_by(out[:3])


@traffic(aten._cudnn_rnn, aten.miopen_rnn)
def rnn(
    out: Sequence[Any],
    input: Tensor,
    weight: list[Tensor],
    hx: Tensor,
    cx: Tensor | None,
) -> tuple[int, int]:
    """Inputs, weights and states; outputs and the last states. The buffer of all weights is these weights."""
    return touched_by((input, weight, hx, cx)), touched_by(out[:3])
