"""Norms: input, weight and bias are read, the output and the statistics for the backward are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import requested, touched_by
from opcount.traffic.written_out import bytes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


_of_five, _of_six = bytes_of(5), bytes_of(6)


@traffic(
    aten.native_batch_norm,
    aten.cudnn_batch_norm,
    aten.miopen_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_functional,
    aten._batch_norm_with_update,
    aten._batch_norm_with_update_functional,
)
def batch_norm(
    out: Sequence[Tensor],
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    training: bool = True,
) -> tuple[int, int]:
    """In training the statistics of the batch are written, and the running ones are read and written."""
    read = _of_five(input, weight, bias, running_mean, running_var)
    return read, _of_five(*out[:3], running_mean, running_var) if training else out[0].nbytes


@traffic(aten._batch_norm_no_update)
def batch_norm_in_evaluation(
    out: Sequence[Tensor],
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
) -> tuple[int, int]:
    """The running statistics are read."""
    return _of_five(input, weight, bias, running_mean, running_var), out[0].nbytes


@traffic(
    aten.native_batch_norm_backward,
    aten.cudnn_batch_norm_backward,
    aten.miopen_batch_norm_backward,
    aten.batch_norm_backward,
)
def batch_norm_backward(
    out: Sequence[Any],
    input: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    grad_out: Tensor | None = None,
    grad_output: Tensor | None = None,
    save_invstd: Tensor | None = None,
    save_var: Tensor | None = None,
    train: bool = True,
    update: bool = True,
    output_mask: Sequence[bool] = (True, True, True),
) -> tuple[int, int]:
    """``dy`` is read, and what each gradient that is asked for is computed of."""
    for_input, for_weight, _ = output_mask
    training = train and update
    statistics = (save_mean, save_invstd, save_var) if training else (running_mean, running_var, None)
    if not (for_input or for_weight):
        statistics = None, None, None
    normed = input if for_weight or (for_input and training) else None
    read = _of_six(grad_output if grad_out is None else grad_out, normed, weight if for_input else None, *statistics)
    return read, touched_by(requested(out, output_mask))


@traffic(aten.native_layer_norm_backward, aten.native_group_norm_backward)
def layer_norm_backward(
    out: Sequence[Any],
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    output_mask: Sequence[bool],
) -> tuple[int, int]:
    """``dy`` is read; ``x`` and its statistics, but for the bias; the weight for the gradient of ``x``."""
    for_input, for_weight = output_mask[:2]
    normed = (input, mean, rstd) if for_input or for_weight else (None, None, None)
    return _of_five(grad_out, *normed, weight if for_input else None), touched_by(requested(out, output_mask))


@traffic(aten._fused_rms_norm_backward)
def rms_norm_backward(
    out: Sequence[Any],
    grad_out: Tensor,
    input: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    output_mask: Sequence[bool],
) -> tuple[int, int]:
    """``dy`` is read, ``x`` and its statistics; the weight for the gradient of ``x``."""
    return layer_norm_backward(out, grad_out, input, input, rstd, weight, output_mask)
