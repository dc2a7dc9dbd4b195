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

_ADAM = 3 + 1 + 3 + 1 + 1 + 1 + 3
"""lerp of the mean; scaling and addcmul of the variance; its root, divided, plus eps; addcdiv of the parameter."""


@formula(aten._fused_adam)
def adam(_out: object, params: Sequence[Tensor], /, *_: object, **options: object) -> Cost:
    """``m += (1 - b1) * (g - m); v = b2 * v + (1 - b2) * g * g; p -= lr * m / (sqrt(v) / c + eps)``: 13 operations.

    Weight decay ``g + d * p`` takes two more, amsgrad's maximum one, maximizing one, unscaling one.
    """
    return _each(params, _ADAM + _options(options, decay=2))


@formula(aten._fused_adamw)
def adamw(_out: object, params: Sequence[Tensor], /, *_: object, **options: object) -> Cost:
    """As Adam, 13 operations; weight decay ``p * (1 - lr * d)`` takes one more."""
    return _each(params, _ADAM + _options(options, decay=1))


@formula(aten._fused_sgd)
def sgd(_out: object, params: Sequence[Tensor], /, *_: object, **options: object) -> Cost:
    """``p -= lr * g``: two operations; with momentum, ``b = m * b + (1 - d) * g`` takes three more.

    Two without dampening, none in the first step; Nesterov's ``g + m * b`` takes two, weight decay two.
    """
    momentum = 0
    if options.get("momentum"):
        first = options.get("is_first_step")
        momentum = (0 if first else 3 if options.get("dampening") else 2) + (2 if options.get("nesterov") else 0)
    return _each(params, 2 + momentum + _options(options, decay=2))


@formula(aten._fused_adagrad)
def adagrad(_out: object, params: Sequence[Tensor], /, *_: object, **options: object) -> Cost:
    """``s += g * g; p -= lr * g / (sqrt(s) + eps)``: seven operations; weight decay takes two more."""
    return _each(params, 7 + _options(options, decay=2))


def _options(options: dict[str, object], *, decay: int) -> int:
    return (
        (decay if options.get("weight_decay") else 0)
        + bool(options.get("amsgrad"))
        + bool(options.get("maximize"))
        + (options.get("grad_scale") is not None)
    )


def _each(params: Sequence[Tensor], times: int) -> Cost:
    return Cost(0, times * scalars(params), 0)
