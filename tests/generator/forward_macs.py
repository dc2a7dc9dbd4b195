"""What PyTorch's functions multiply, from the shapes of their arguments alone; knows nothing of opcount.

A function is known by its name as programs call it. Under `torch.func` shapes lack the dimensions that are mapped
over; an output has them where an operand does, so that its elements are what is multiplied by the length summed over.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


def elements(tensor: Tensor) -> int:
    """Return how many elements a tensor has, those that `torch.func.vmap` hides included."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor.numel()


def _summed(length: int, out: Tensor) -> int:
    return elements(out) * length * (4 if out.is_complex() else 1)


def linear(out, /, x, weight, *_args, **_options):
    return _summed(weight.shape[-1], out)


def matmul(out, /, a, b, **_options):
    return _summed(a.shape[-1], out)


def reversed_matmul(out, /, b, a):
    return _summed(a.shape[-1], out)


def added(out, /, _to, a, b, **_options):
    return _summed(a.shape[-1], out)


def add_batches(out, /, _to, a, b, **_options):
    return _summed(a.shape[-1] * a.shape[0], out)


def einsum(out, /, equation, a, b):
    inputs, output = equation.split("->")
    first, second = inputs.split(",")
    sizes = dict(zip(first + second, (*a.shape, *b.shape), strict=True))
    return _summed(prod(size for letter, size in sizes.items() if letter not in output), out)


def tensordot(out, /, a, b, dims=2, **_options):
    return _summed(prod(a.shape[-dims:]), out)


def convolution(out, /, x, weight, *_args, **_options):
    return elements(out) * prod(weight.shape[1:]) * (3 if out.is_complex() else 1)


def transposed_convolution(out, /, x, weight, *_args, **_options):
    return elements(x) * prod(weight.shape[1:]) * (3 if out.is_complex() else 1)


def bilinear(out, /, a, b, weight, *_args):
    """The first input with the weight, then the second with what comes out."""
    return elements(out) * (weight.shape[1] * weight.shape[2] + weight.shape[2])


def attention(out, /, query, key, value, *_args, **_options):
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


def multi_head_attention(_out, /, query, key, value, width, _heads, *_args, **_options):
    """Four projections around an attention; ``(length, batch, width)``, or without the batch."""
    length, source = query.shape[0], key.shape[0]
    batch = query.numel() // (length * width)
    projections = batch * width * width * (2 * length + 2 * source)
    return projections + batch * length * source * 2 * width


KNOWN: dict[str, Callable[..., int]] = {
    "linear": linear,
    **dict.fromkeys(["matmul", "__matmul__", "mm", "bmm", "mv", "dot", "vdot", "inner"], matmul),
    "__rmatmul__": reversed_matmul,
    **dict.fromkeys(["addmm", "addmm_", "baddbmm", "baddbmm_", "addmv", "addmv_"], added),
    "addbmm": add_batches,
    "einsum": einsum,
    "tensordot": tensordot,
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], convolution),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], transposed_convolution),
    "bilinear": bilinear,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], recurrent),
    **dict.fromkeys(["lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"], cell),
    "multi_head_attention_forward": multi_head_attention,
}


def forward_macs(name: str, out: object, args: tuple, kwargs: dict) -> int:
    """Return what a call multiplied; 0 for functions without products."""
    known = KNOWN.get(name)
    return known(out, *args, **kwargs) if known else 0
