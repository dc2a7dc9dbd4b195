"""Fused optimizers: for each parameter's elements, the operations of the textbook update.

They are those that `torch.optim` dispatches one by one with ``foreach=False``: fused == decomposed. What is computed
once for each tensor (bias corrections, the step) is not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.formulas.sizes import scalars
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    Tensors = Sequence[Tensor]

_ADAM = 3 + 1 + 3 + 1 + 1 + 1 + 3
"""lerp of the mean; scaling and addcmul of the variance; its root, divided, plus eps; addcdiv of the parameter."""


@formula(aten._fused_adam)
def adam(self: Tensors, weight_decay: float, amsgrad: bool, maximize: bool, grad_scale: Tensor | None) -> Cost:
    """``m += (1 - b1) * (g - m); v = b2 * v + (1 - b2) * g * g; p -= lr * m / (sqrt(v) / c + eps)``: 13 operations.

    Weight decay ``g + d * p`` takes two more, amsgrad's maximum one, maximizing one, unscaling one.
    """
    return _each(self, _ADAM + 2 * bool(weight_decay), amsgrad, maximize, grad_scale)


@formula(aten._fused_adamw)
def adamw(self: Tensors, weight_decay: float, amsgrad: bool, maximize: bool, grad_scale: Tensor | None) -> Cost:
    """As Adam, 13 operations; weight decay ``p * (1 - lr * d)`` takes one more."""
    return _each(self, _ADAM + bool(weight_decay), amsgrad, maximize, grad_scale)


@formula(aten._fused_sgd)
def sgd(
    self: Tensors,
    weight_decay: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None,
) -> Cost:
    """``p -= lr * g``: two operations; with momentum, ``b = m * b + (1 - d) * g`` takes three more.

    Two without dampening, none in the first step; Nesterov's ``g + m * b`` takes two, weight decay two.
    """
    moved = 0
    if momentum:
        moved = (0 if is_first_step else 3 if dampening else 2) + 2 * nesterov
    return _each(self, 2 + moved + 2 * bool(weight_decay), maximize, grad_scale)


@formula(aten._fused_adagrad)
def adagrad(self: Tensors, weight_decay: float, maximize: bool, grad_scale: Tensor | None) -> Cost:
    """``s += g * g; p -= lr * g / (sqrt(s) + eps)``: seven operations; weight decay takes two more."""
    return _each(self, 7 + 2 * bool(weight_decay), maximize, grad_scale)


def _each(params: Tensors, times: int, *more: Tensor | bool | None) -> Cost:
    """Price so many operations for each element, and one for each option that is on."""
    return Cost(0, (times + sum(option is not None and option is not False for option in more)) * scalars(params))
