"""Fused optimizers: parameters, gradients and states are read; parameters and states are written.

Numbers that each tensor has one of, such as the count of steps, are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.registry import aten
from opcount.traffic.registry import traffic
from opcount.traffic.touched import touched_by

if TYPE_CHECKING:
    from torch import Tensor


@traffic(aten._fused_adam_, aten._fused_adamw_)
def fused_adam_(
    self: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor],
    amsgrad: bool,
    grad_scale: Tensor | None,
) -> tuple[int, int]:
    """``p``, ``g``, ``m`` and ``v`` are read, ``p``, ``m`` and ``v`` written: 28 bytes for a float32 parameter."""
    states = (self, exp_avgs, exp_avg_sqs, max_exp_avg_sqs if amsgrad else None)
    return _step(states, grads, grad_scale)


@traffic(aten._fused_sgd_)
def fused_sgd_(
    self: list[Tensor],
    grads: list[Tensor],
    momentum_buffer_list: list[Tensor],
    is_first_step: bool,
    grad_scale: Tensor | None,
) -> tuple[int, int]:
    """``p``, ``g`` and the momentum are read, ``p`` and the momentum written; the first step makes the momentum."""
    read, written = _step((self, momentum_buffer_list), grads, grad_scale)
    return read - (touched_by(momentum_buffer_list) if is_first_step else 0), written


@traffic(aten._fused_adagrad_)
def fused_adagrad_(
    self: list[Tensor], grads: list[Tensor], state_sums: list[Tensor], grad_scale: Tensor | None
) -> tuple[int, int]:
    """``p``, ``g`` and the sums are read, ``p`` and the sums written."""
    return _step((self, state_sums), grads, grad_scale)


def _step(states: tuple[list[Tensor] | None, ...], grads: list[Tensor], grad_scale: Tensor | None) -> tuple[int, int]:
    """A scale that gradients are divided by makes them written, too."""
    seen: set[int] = set()
    changed, gradients = touched_by(states, seen), touched_by((grads,), seen)
    return changed + gradients, changed if grad_scale is None else changed + gradients
