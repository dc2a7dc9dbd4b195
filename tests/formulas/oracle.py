"""Naive programs that count what they do: the other side of every test of a formula.

Each is written from the mathematical definition with loops, on numbers that count their own operations. They return
values too, so that a test can show that the program is the operator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from tests.formulas.seen import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opcount.cost import Cost


@dataclass
class Meter:
    """Counts operations on its numbers."""

    products: int = 0
    sums: int = 0
    others: int = 0

    @property
    def operations(self) -> int:
        return self.products + self.sums + self.others

    def read(self, tensor: torch.Tensor) -> np.ndarray:
        """Return the tensor as an array of numbers that count here."""
        flat = [Number(value, self) for value in tensor.detach().flatten().tolist()]
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array.reshape(tuple(tensor.shape))


@dataclass(frozen=True)
class Number:
    value: float
    meter: Meter = field(repr=False)

    def __mul__(self, other: Number | float) -> Number:
        self.meter.products += 1
        return Number(self.value * _value(other), self.meter)

    def __truediv__(self, other: Number | float) -> Number:
        self.meter.products += 1
        return Number(self.value / _value(other), self.meter)

    def __add__(self, other: Number | float) -> Number:
        self.meter.sums += 1
        return Number(self.value + _value(other), self.meter)

    def __sub__(self, other: Number | float) -> Number:
        self.meter.sums += 1
        return Number(self.value - _value(other), self.meter)

    def apply(self, function) -> Number:
        """Apply a function of one variable, which counts one."""
        self.meter.others += 1
        return Number(function(self.value), self.meter)

    def larger(self, other: Number) -> Number:
        self.meter.others += 1
        return self if self.value >= other.value else other

    __rmul__ = __mul__
    __radd__ = __add__


def _value(x: Number | float) -> float:
    return x.value if isinstance(x, Number) else x


def values(array: np.ndarray) -> torch.Tensor:
    """Return the values of an array of numbers."""
    return torch.tensor([_value(x) for x in array.flat], dtype=torch.float64).reshape(array.shape)


def integers(*shape: int) -> torch.Tensor:
    """Return small whole numbers, on which sums are exact in any order."""
    return torch.randint(-3, 4, shape).double()


def einsum(equation: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Contract two operands: for each output, one product and one sum for each value of the indices that vanish."""
    inputs, output = equation.split("->")
    index_a, index_b = inputs.split(",")
    sizes = {**dict(zip(index_a, a.shape, strict=True)), **dict(zip(index_b, b.shape, strict=True))}
    vanishing = [i for i in sizes if i not in output]
    out = np.zeros([sizes[i] for i in output], dtype=object)
    for at in product(*(range(sizes[i]) for i in output)):
        for gone in product(*(range(sizes[i]) for i in vanishing)):
            where = dict(zip([*output, *vanishing], [*at, *gone], strict=True))
            out[at] = a[tuple(where[i] for i in index_a)] * b[tuple(where[i] for i in index_b)] + out[at]
    return out


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    """Slide every kernel over its group of channels of the padded input."""
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=Number(0.0, x.flat[0].meter))
    outputs, channels, *kernel = weight.shape
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    sizes = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    out = np.zeros((len(x), outputs, *sizes), dtype=object)
    for n, o, *p in product(*map(range, out.shape)):
        first = o // (outputs // groups) * channels
        for c, *q in product(range(channels), *map(range, kernel)):
            at = [s * i + d * j for s, i, d, j in zip(stride, p, dilation, q, strict=True)]
            out[(n, o, *p)] = x[(n, first + c, *at)] * weight[(o, c, *q)] + out[(n, o, *p)]
    return out


def transposed_convolution(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    """Spread every input over its group of output channels, then crop the padding."""
    inputs, channels, *kernel = weight.shape
    sizes = [s * (n - 1) + d * (k - 1) + 1 for n, s, d, k in zip(x.shape[2:], stride, dilation, kernel, strict=True)]
    out = np.zeros((len(x), channels * groups, *sizes), dtype=object)
    for n, c, *p in product(*map(range, x.shape)):
        first = c // (inputs // groups) * channels
        for o, *q in product(range(channels), *map(range, kernel)):
            at = (n, first + o, *(s * i + d * j for s, i, d, j in zip(stride, p, dilation, q, strict=True)))
            out[at] = x[(n, c, *p)] * weight[(c, o, *q)] + out[at]
    return out[(..., *(slice(p, size - p) for p, size in zip(padding, sizes, strict=True)))]


def price(func, *args, **kwargs) -> Cost:
    """Run one overload and return what its formula, or else its rule, says of it."""
    return price_of(func, func(*args, **kwargs), *args, **kwargs)


def price_of(func, out, /, *args, **kwargs) -> Cost:
    """Return what the formula of an overload says of a call that gave ``out``."""
    formula = decide(func, out, args, kwargs)
    return formula.price(out, *args, **kwargs)


def price_by_name(func, out=None, **arguments) -> Cost:
    """Return what the formula of an overload says of a call, whose other arguments are None or their defaults."""
    schema = {argument.name: argument.default_value for argument in func._schema.arguments}
    assert arguments.keys() <= schema.keys()
    return price_of(func, out, **{**schema, **arguments})
