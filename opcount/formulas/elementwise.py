"""Elementwise operators that do more than one operation for each output element; the rest follow a rule.

A transcendental function counts one, whatever it is made of: ``exp``, but also ``gelu`` and ``silu``. Its backward is
a second such function times the gradient: two. A backward that only selects (``relu``, ``hardtanh``) counts one.
Scaling by 1 is not counted: ``add`` is one operation, ``add`` with ``alpha`` two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from opcount.cost import Cost, new_cost
from opcount.formulas.sizes import per_output, register, scalars
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

_STRIDED = torch.strided


@formula(aten.add, aten.sub, aten.rsub)
def add(out: Tensor, _a: object, _b: object, /, alpha: object = 1, **_: object) -> Cost:
    """``out = a + alpha * b``: one operation for each output element, two with an ``alpha``."""
    outputs = out.numel() if out.layout is _STRIDED else scalars(out)
    return new_cost(Cost, (0, outputs if alpha == 1 else 2 * outputs, 0))


@formula(aten._foreach_add, aten._foreach_sub)
def foreach_add(out: object, self: list[Tensor], alpha: object = 1) -> Cost:
    """``out[i] = a[i] + alpha * b[i]``: one operation for each element, two with an ``alpha``."""
    outputs = scalars(self if out is None else out)
    return Cost(0, outputs if alpha == 1 else 2 * outputs, 0)


@formula(aten.addcmul, aten.addcdiv)
def addcmul(out: Tensor, value: object) -> Cost:
    """``out = a + value * b * c``, or ``b / c``: two operations for each output element, three with a ``value``."""
    outputs = out.numel() if out.layout is _STRIDED else scalars(out)
    return Cost(0, 2 * outputs if value == 1 else 3 * outputs, 0)


@formula(aten._foreach_addcmul, aten._foreach_addcdiv)
def foreach_addcmul(out: object, self: list[Tensor], value: object = None) -> Cost:
    """``out[i] = a[i] + value * b[i] * c[i]``, or ``b[i] / c[i]``: two operations each, three with a ``value``."""
    outputs = scalars(self if out is None else out)
    return Cost(0, 2 * outputs if value == 1 else 3 * outputs, 0)


@formula(aten.native_dropout)
def native_dropout(out: tuple[Tensor, Tensor], train: bool | None) -> Cost:
    """``out = x * mask * scale``: two operations for each element in training; drawing the mask is free."""
    return Cost(0, 2 * out[0].numel() if train is not False else 0, 0)


@formula(aten.glu_backward)
def glu_backward(grad_output: Tensor) -> Cost:
    """``s = sigmoid(b); da = grad * s; db = da * a * (1 - s)``: five operations for each incoming gradient."""
    return Cost(0, 5 * grad_output.numel(), 0)


@formula(aten._prelu_kernel_backward)
def prelu_backward(out: tuple[Tensor, Tensor]) -> Cost:
    """``dx = grad * (x > 0 ? 1 : w)`` and ``dw = grad * (x > 0 ? 0 : x)``: a comparison and a product, twice."""
    return Cost(0, 4 * out[0].numel(), 0)


_OPERATIONS = {
    1: "max.out min.out __irshift__ log_sigmoid_forward",
    2: """
        _add_relu _fused_dropout _masked_scale native_dropout_backward glu
        _amp_foreach_non_finite_check_and_unscale gelu_backward silu_backward mish_backward elu_backward
        softplus_backward log_sigmoid_backward logit_backward hardswish_backward rrelu_with_noise_backward
    """,
    3: "lerp _foreach_lerp sigmoid_backward tanh_backward linalg_cross",
    4: "polar",
    6: "glu_jvp glu_backward_jvp",
}
"""By operations for each output element.

``lerp`` is ``a + w * (b - a)``, ``sigmoid_backward`` ``g * y * (1 - y)``, ``tanh_backward`` ``g * (1 - y * y)``, a
component of a cross product ``a * b - c * d``, and ``polar`` takes a sine, a cosine and two products. What
``log_sigmoid_forward`` keeps for its backward on the CPU alone is not counted.
"""

for _times, _names in _OPERATIONS.items():
    register("elementwise", per_output(_times), [f"aten.{name}" for name in _names.split()])
