"""Cost and traffic of frequent operators in one call, which asks each tensor for its size once.

Such a function stands for a formula and the rule of traffic, and returns what these do for strided tensors. Any other
call raises an error in it, and is left to the pair: a sparse tensor has no ``nbytes``, or no strides, a nested one no
shape.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.formulas.conv import convolution
from opcount.formulas.elementwise import add, addcmul
from opcount.formulas.matmul import addmm, mm
from opcount.formulas.norm import layer_norm
from opcount.formulas.reduction import softmax, softmax_backward
from opcount.formulas.rules import each_input, each_output
from opcount.traffic.written_out import Joint, joint

if TYPE_CHECKING:
    from opcount.registry import Pricing
    from opcount.traffic.registry import Traffic

_REAL = "(4 if out.dtype.is_complex else 1)"
_SCALED = "bool(kwargs and kwargs.get('{}', 1) != 1)"

_COSTS: dict[Pricing, str] = {
    each_output: "0, out.numel(), 0",
    each_input: "0, x0.numel(), 0",
    add: f"0, (1 + {_SCALED.format('alpha')}) * out.numel(), 0",
    addcmul: f"0, (2 + {_SCALED.format('value')}) * out.numel(), 0",
    mm: f"(n := out.numel()) * x0.shape[-1] * {_REAL}, 0, n",
    addmm: f"(n := out.numel()) * x1.shape[-1] * {_REAL}, n, n",
    convolution: f"(x0 if args[6] else out).numel() * (x1.numel() // (x1.shape[0] or 1)) * {_REAL}, "
    "(n := out.numel()) * (x2 is not None), n",
    softmax: "0, 5 * out.numel(), 0",
    softmax_backward: "0, 4 * out.numel(), 0",
    layer_norm: "0, x0.numel() * (4 if x2 is None else 5), 0",
}
"""MACs, other operations and activations by a formula, in the names that `written_out` gives to arguments."""

_BY_LAYOUT = {mm, addmm}
"""Formulas beside which there are others for sparse or nested tensors, and no others."""


def joint_of(price: Pricing, traffic: Traffic, *, conditional: bool) -> Joint | None:
    """Return the function for a formula and what its operator reads and writes; None: there is none.

    Args:
        price: The formula.
        traffic: What says what is read and written.
        conditional: Whether there are other formulas for some calls.
    """
    price, shape = getattr(price, "__wrapped__", price), getattr(traffic, "shape", None)
    if shape is None or shape.lists or (conditional and price not in _BY_LAYOUT):
        return None
    times = getattr(price, "times", None)
    cost = _COSTS.get(price) if times is None else f"0, {times} * out.numel(), 0"
    if cost is None or not set(re.findall(r"x\d", cost)) <= {name for _, name in shape.names()}:
        return None
    return None if "out.numel()" in cost and shape.returns > 1 else joint(shape, cost)
