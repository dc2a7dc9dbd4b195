"""Cost and traffic of the most frequent operators in one call, which asks each tensor for its size once.

Each function stands for a pair of a formula and a rule, and returns what these do for strided tensors. Any other call
raises an error in it, and is left to the pair: a sparse tensor has no ``nbytes``, or no strides, a nested one no shape.
So are all calls with keyword arguments, such as ``alpha``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount.formulas.conv import convolution
from opcount.formulas.elementwise import add
from opcount.formulas.matmul import addmm, mm
from opcount.formulas.rules import each_output
from opcount.traffic.rule import change_by_two, change_one, read_one, read_scaled, read_three, read_two
from opcount.traffic.touched import touched

if TYPE_CHECKING:
    from opcount.registry import Pricing
    from opcount.traffic.registry import Traffic

Counts = tuple[int, int, int, int, int]
"""MACs, other operations, activations, bytes read and bytes written."""

Joint = Callable[[Any, "tuple[Any, ...]"], Counts]
"""``joint(out, args)``; the arguments as one tuple: to pass them on one by one takes longer."""

_COMPLEX = frozenset(t for t in vars(torch).values() if isinstance(t, torch.dtype) and t.is_complex)


def _map_one(out: Any, args: tuple[Any, ...]) -> Counts:
    a = args[0]
    read = a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    return 0, out.numel(), 0, read, out.nbytes


def _map_two(out: Any, args: tuple[Any, ...]) -> Counts:
    a, b = args[0], args[1]
    read = a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    if b is not a and isinstance(b, Tensor):
        read += b.nbytes if b.is_contiguous() or 0 not in b.stride() else touched(b)
    return 0, out.numel(), 0, read, out.nbytes


def _change_one(_out: Any, args: tuple[Any, ...]) -> Counts:
    a = args[0]
    size = a.nbytes
    if not a.is_contiguous() and 0 in a.stride():
        size = touched(a)
    return 0, a.numel(), 0, size, size


def _change_by_two(_out: Any, args: tuple[Any, ...]) -> Counts:
    a, b = args[0], args[1]
    read = size = a.nbytes
    if not a.is_contiguous() and 0 in a.stride():
        read = size = touched(a)
    if b is not a and isinstance(b, Tensor):
        read += b.nbytes if b.is_contiguous() or 0 not in b.stride() else touched(b)
    return 0, a.numel(), 0, read, size


def _mm(out: Any, args: tuple[Any, ...]) -> Counts:
    a, b = args[0], args[1]
    read = a.nbytes
    if not a.is_contiguous() and 0 in a.stride():
        read = touched(a)
    if b is not a:
        size = b.nbytes
        read += size if b.is_contiguous() or 0 not in b.stride() else touched(b)
    outputs = out.numel()
    macs = outputs * a.shape[-1]
    return 4 * macs if out.dtype in _COMPLEX else macs, 0, outputs, read, out.nbytes


def _addmm(out: Any, args: tuple[Any, ...]) -> Counts:
    bias, a, b = args[0], args[1], args[2]
    read = a.nbytes
    if not a.is_contiguous() and 0 in a.stride():
        read = touched(a)
    if b is not a:
        size = b.nbytes
        read += size if b.is_contiguous() or 0 not in b.stride() else touched(b)
    if bias is not a and bias is not b:
        read += bias.nbytes if bias.is_contiguous() or 0 not in bias.stride() else touched(bias)
    outputs = out.numel()
    macs = outputs * a.shape[-1]
    return 4 * macs if out.dtype in _COMPLEX else macs, outputs, outputs, read, out.nbytes


def _convolution(out: Any, args: tuple[Any, ...]) -> Counts:
    x, weight, bias = args[0], args[1], args[2]
    read = x.nbytes
    if not x.is_contiguous() and 0 in x.stride():
        read = touched(x)
    if weight is not x:
        size = weight.nbytes
        read += size if weight.is_contiguous() or 0 not in weight.stride() else touched(weight)
    outputs = out.numel()
    macs = (x.numel() if args[6] else outputs) * (weight.numel() // (weight.shape[0] or 1))
    if out.dtype in _COMPLEX:
        macs *= 4
    if bias is None:
        return macs, 0, outputs, read, out.nbytes
    if bias is not weight and bias is not x:
        read += bias.nbytes if bias.is_contiguous() or 0 not in bias.stride() else touched(bias)
    return macs, outputs, outputs, read, out.nbytes


JOINT: dict[tuple[Pricing, Traffic], Joint] = {
    (each_output, read_one): _map_one,
    (each_output, read_two): _map_two,
    (each_output, change_one): _change_one,
    (each_output, change_by_two): _change_by_two,
    (add, read_two): _map_two,
    (add, change_by_two): _change_by_two,
    (mm, read_two): _mm,
    (addmm, read_scaled): _addmm,
    (convolution, read_three): _convolution,
}
"""By a formula and a rule of traffic."""
