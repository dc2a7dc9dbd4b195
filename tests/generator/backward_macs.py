"""Products of autograd's nodes, from the shapes of the gradients that go in and come out; knows nothing of opcount.

A product of two operands owes one more product for each operand's gradient: the same pairs of numbers are multiplied
as in forward. What a node has saved is never looked at: that would run a checkpoint again.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tests.generator.hidden import elements, stored

if TYPE_CHECKING:
    from collections.abc import Callable


class Call(NamedTuple):
    """The function that made a node.

    Attributes:
        name: As programs call it.
        args: Its arguments, tensors by their shapes.
        layouts: Of the tensors among them.
    """

    name: str
    args: tuple[Any, ...]
    layouts: tuple[torch.layout, ...] = ()
    nonzero: int = 0


def call_of(name: str, args: tuple[Any, ...]) -> Call:
    """Return what there is to remember of a call."""
    tensors = [each for each in args if isinstance(each, torch.Tensor)]
    sparse = [stored(each) for each in tensors if each.layout != torch.strided]
    shapes = tuple(each.shape if isinstance(each, torch.Tensor) else None for each in args)
    return Call(name, shapes, tuple(each.layout for each in tensors), sum(sparse))


def product(call, wanted, given):
    """``a @ b``: the gradient of ``a`` sums over ``n``, that of ``b`` over ``m``: ``m * k * n`` both times.

    That of a sparse ``a`` is a product of dense matrices, of which the rest is left out.
    """
    [out] = given
    first, second = wanted
    if call.nonzero:
        places = prod(first.shape) if first is not None else 0
        return out.shape[-1] * (places + (call.nonzero if second is not None else 0))
    factor = 4 if out.is_complex() else 1
    return factor * elements(out) * (_size(first, -1) + _size(second, -2))


def _size(tensor, dim):
    return 0 if tensor is None else tensor.shape[dim]


def added_product(call, wanted, given):
    """``c + a @ b``: the gradient of ``c`` multiplies nothing."""
    return product(call, wanted[1:], given)


def convolution(call, wanted, given):
    [out] = given
    x, weight, *_ = wanted
    taps = prod((weight.shape if weight is not None else call.args[1])[1:])
    transposed = call.name.startswith("conv_transpose")
    pairs = out.numel() if not transposed else x.numel() if x is not None else prod(call.args[0])
    batch = elements(out) // out.numel()
    return (3 if out.is_complex() else 1) * batch * pairs * taps * ((x is not None) + (weight is not None))


def convolution_twice(call, wanted, given):
    """Derivatives of ``convolution(x, w)`` along ``dx`` and ``dw``, and of its gradients; strides are all 1."""
    x, weight = call.args[:2]
    along_x, along_weight, *_ = given
    out, to_x, _ = wanted
    once = (prod(x) if call.name.startswith("conv_transpose") else _outputs(call)) * prod(weight[1:])
    products = 0
    if out is not None:
        products += (along_x is not None) + (along_weight is not None)
    products += to_x is not None and along_weight is not None
    products += along_x is not None  # for the weight, also where it is frozen
    return once * products


def _outputs(call):
    """Elements of the output of a convolution whose padding keeps the size."""
    x, weight = call.args[:2]
    return prod(x) // x[1] * weight[0] if len(x) == len(weight) else 0


def bilinear(call, wanted, given):
    """``out[b, o] = sum(x[b, i] * w[o, i, j] * y[b, j])``: a gradient is a product of two operands, then of the third.

    The first product is summed at once over what the third operand lacks.
    """
    (b, o), (out, i, j) = given[0].shape, call.args[2]
    whole = b * o * i * j
    costs = (whole + b * i * j, b * i * out + whole, whole + b * o * j)
    return sum(cost for cost, gradient in zip(costs, wanted, strict=True) if gradient is not None)


def recurrent_layer(_call, wanted, given):
    """Data and weights, both, whatever is asked for: there is one kernel, of four gates.

    Where it is to be differentiated again, the gates are computed once more.
    """
    x, weight, *_ = wanted
    hidden, rows = given[0].shape[-1], given[0].numel() // given[0].shape[-1]
    inputs = x.shape[-1] if x is not None else weight.shape[-1]
    return (3 if torch.is_grad_enabled() else 2) * rows * 4 * hidden * (inputs + hidden)


def attention(call, wanted, given):
    """Scores anew, then four products: the gradients of scores, query, key, value."""
    *batch, length, width = given[0].shape
    source = call.args[1][0 if call.name == "multi_head_attention_forward" else -2]
    return prod(batch) * length * source * 5 * width


def vector(_call, wanted, given):
    """``matrix @ vector``: the gradient of the matrix is an outer product, in which nothing is summed."""
    return elements(given[0]) * _size(wanted[1], -1)


KNOWN: dict[str, Callable[..., int]] = {
    "MmBackward": product,
    "BmmBackward": product,
    "AddmmBackward": added_product,
    "BaddbmmBackward": added_product,
    "ConvolutionBackward": convolution,
    "ConvolutionBackwardBackward": convolution_twice,
    "MkldnnRnnLayerBackward": recurrent_layer,
    "ScaledDotProductFlashAttentionForCpuBackward": attention,
    "TrilinearBackward": bilinear,
    "MvBackward": vector,
}


def backward_macs(node: Any, call: Call, wanted: tuple, given: tuple) -> int:
    """Return what a node multiplied; 0 for those without products."""
    known = KNOWN.get(node.name().rstrip("0123456789"))
    if known is None or all(each is None for each in given):
        return 0
    return int(known(call, wanted, given))
