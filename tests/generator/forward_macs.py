"""Products of PyTorch's functions, from the shapes of their arguments alone; knows nothing of opcount.

A function is known by its name as programs call it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.generator.hidden import batches, stored, tangent

if TYPE_CHECKING:
    from collections.abc import Callable


def _summed(length: int, out: Tensor) -> int:
    return out.numel() * length * (4 if out.is_complex() else 1)


def linear(out, /, _x, weight, *_args, **_options):
    return _summed(weight.shape[-1], out)


def matmul(out, /, a, b, **_options):
    if a.layout != torch.strided:
        return stored(a) * out.shape[-1]
    return _summed(a.shape[-1], out)


def reversed_matmul(out, /, _b, a):
    return _summed(a.shape[-1], out)


def added(out, /, _to, a, _b, **_options):
    return _summed(a.shape[-1], out)


def add_batches(out, /, _to, a, _b, **_options):
    return _summed(a.shape[-1] * a.shape[0], out)


def einsum(out, /, equation, a, b):
    inputs, output = equation.split("->")
    first, second = inputs.split(",")
    sizes = dict(zip(first + second, (*a.shape, *b.shape), strict=True))
    return _summed(prod(size for letter, size in sizes.items() if letter not in output), out)


def tensordot(out, /, a, _b, dims=2, **_options):
    return _summed(prod(a.shape[-dims:]), out)


def convolution(out, /, _x, weight, *_args, **_options):
    return out.numel() * prod(weight.shape[1:]) * (3 if out.is_complex() else 1)


def transposed_convolution(out, /, x, weight, *_args, **_options):
    return x.numel() * prod(weight.shape[1:]) * (3 if out.is_complex() else 1)


def bilinear(out, /, _a, _b, weight, *_args):
    """The first input with the weight, then the second with what comes out."""
    return out.numel() * (weight.shape[1] * weight.shape[2] + weight.shape[2])


def attention(_out, /, query, key, value, *_args, **_options):
    *batch, length, width = query.shape
    return prod(batch) * length * key.shape[-2] * (width + value.shape[-1])


def recurrent(_out, /, x, *args):
    """Every weight matrix meets every row once; a packed sequence comes as its rows and their batch sizes."""
    packed = isinstance(args[0], Tensor) and isinstance(args[2], (list, tuple))
    rows, weights = (x.shape[0], args[2]) if packed else (x.numel() // x.shape[-1], args[1])
    return rows * sum(weight.numel() for weight in weights if weight.dim() == 2)


def cell(_out, /, x, _state, input_weight, hidden_weight, *_args):
    rows = x.numel() // x.shape[-1]
    return rows * (input_weight.numel() + hidden_weight.numel())


def multi_head_attention(_out, /, query, key, _value, width, _heads, *_args, **_options):
    """Four projections around an attention; ``(length, batch, width)``."""
    length, source = query.shape[0], key.shape[0]
    batch = query.numel() // (length * width)
    projections = batch * width * width * (2 * length + 2 * source)
    return projections + batch * length * source * 2 * width


FACTORS: dict[str, tuple[Callable[..., int], tuple[int, ...]]] = {
    "linear": (linear, (0, 1)),
    **dict.fromkeys(["matmul", "__matmul__", "mm", "bmm", "mv", "dot", "vdot", "inner"], (matmul, (0, 1))),
    "__rmatmul__": (reversed_matmul, (0, 1)),
    **dict.fromkeys(["addmm", "addmm_", "baddbmm", "baddbmm_", "addmv", "addmv_"], (added, (1, 2))),
    "addbmm": (add_batches, (1, 2)),
    "einsum": (einsum, (1, 2)),
    "tensordot": (tensordot, (0, 1)),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], (convolution, (0, 1))),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], (transposed_convolution, (0, 1))),
}
"""Products of two factors, and where these stand among the arguments."""

OTHERS: dict[str, Callable[..., int]] = {
    "bilinear": bilinear,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], recurrent),
    **dict.fromkeys(["lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"], cell),
    "multi_head_attention_forward": multi_head_attention,
}
"""Functions of several products."""


def forward_macs(name: str, out: object, args: tuple, kwargs: dict) -> int:
    """Return what a call multiplied; 0 for functions without products."""
    if name in FACTORS:
        known, factors = FACTORS[name]
        return known(out, *args, **kwargs) * _times(*(args[i] for i in factors))
    known = OTHERS.get(name)
    if known is None:
        return 0
    tensors = [each for each in args if isinstance(each, Tensor)]
    return known(out, *args, **kwargs) * prod(_merged(tensors).values())


def _times(a: Tensor, b: Tensor) -> int:
    """Return how often a product is made: for each element of a map, and in forward mode for each factor's tangent.

    Where one factor has a tangent, the other's is made of zeros, and multiplied all the same.
    """
    along_a, along_b = tangent(a), tangent(b)
    pairs = [(a, b)]
    if along_a is not None or along_b is not None:
        pairs += [(a if along_a is None else along_a, b), (a, b if along_b is None else along_b)]
    return sum(prod(_merged(pair).values()) for pair in pairs)


def _merged(tensors: tuple[Tensor, ...] | list[Tensor]) -> dict[int, int]:
    return {level: size for tensor in tensors for level, size in batches(tensor).items()}
