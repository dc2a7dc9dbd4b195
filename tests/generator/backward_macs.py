"""What autograd's nodes multiply, from the shapes of the gradients that go in and come out; knows nothing of opcount.

A product of two operands owes one more product for each operand's gradient: the same pairs of numbers are multiplied
as in forward.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tests.generator.forward_macs import elements

if TYPE_CHECKING:
    from collections.abc import Callable


def product(_node, wanted, given):
    """``a @ b``: the gradient of ``a`` sums over ``n``, that of ``b`` over ``m``: ``m * k * n`` both times."""
    [out] = given
    first, second = wanted
    factor = 4 if out.is_complex() else 1
    return factor * elements(out) * (_last(first, -1) + _last(second, -2))


def _last(tensor, dim):
    return 0 if tensor is None else tensor.shape[dim]


def added_product(node, wanted, given):
    """``c + a @ b``: the gradient of ``c`` multiplies nothing."""
    return product(node, wanted[1:], given)


def convolution(node, wanted, given):
    [out] = given
    x, weight, *_ = wanted
    taps = prod((weight if weight is not None else node._saved_weight).shape[1:])
    pairs = (elements(x) if x is not None else elements(node._saved_input)) if node._saved_transposed else elements(out)
    return (3 if out.is_complex() else 1) * pairs * taps * ((x is not None) + (weight is not None))


def bilinear(node, wanted, given):
    """``out[b, o] = sum(x[b, i] * w[o, i, j] * y[b, j])``: a gradient is a product of two operands, then of the third.

    The first product is summed at once over what the third operand lacks.
    """
    (b, o), (out, i, j) = given[0].shape, (wanted[1] if wanted[1] is not None else node._saved_i2).shape[-3:]
    whole = b * o * i * j
    costs = (whole + b * i * j, b * i * out + whole, whole + b * o * j)
    return sum(cost for cost, gradient in zip(costs, wanted, strict=True) if gradient is not None)


def recurrent_layer(node, _wanted, _given):
    """Data and weights, both, whatever is asked for: there is one kernel."""
    rows = node._saved_input.numel() // node._saved_input.shape[-1]
    return 2 * rows * (node._saved_weight0.numel() + node._saved_weight1.numel())


def attention(node, _wanted, _given):
    """Scores anew, then four products: the gradients of scores, query, key, value."""
    *batch, length, width = node._saved_query.shape
    return prod(batch) * length * node._saved_key.shape[-2] * (3 * width + 2 * node._saved_value.shape[-1])


def vector(node, wanted, given):
    """``matrix @ vector``: the gradient of the matrix is an outer product, in which nothing is summed."""
    return elements(given[0]) * _last(wanted[1], -1)


KNOWN: dict[str, Callable[..., int]] = {
    "Mm": product,
    "Bmm": product,
    "Addmm": added_product,
    "Baddbmm": added_product,
    "Convolution": convolution,
    "MkldnnRnnLayer": recurrent_layer,
    "ScaledDotProductFlashAttentionForCpu": attention,
    "Trilinear": bilinear,
    "Mv": vector,
}


def backward_macs(node: object, wanted: tuple, given: tuple) -> int:
    """Return what a node multiplied; 0 for those without products."""
    known = KNOWN.get(node.name().partition("Backward")[0])
    return known(node, wanted, given) if known and any(each is not None for each in given) else 0
