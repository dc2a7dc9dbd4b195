"""Backward of convolutions: each gradient that is asked for reads what it is computed of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import requested, touched_by
from opcount.traffic.written_out import bytes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


_of_three = bytes_of(3)


@traffic(aten.convolution_backward, aten.convolution_backward_overrideable)
def convolution_backward(
    out: Sequence[Tensor | None],
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    output_mask: Sequence[bool],
) -> tuple[int, int]:
    """The gradient of the input reads ``dy`` and the weight, that of the weight ``dy`` and the input."""
    for_input, for_weight, _ = output_mask
    read = _of_three(grad_output, weight if for_input else None, input if for_weight else None)
    return read, touched_by(requested(out, output_mask))
