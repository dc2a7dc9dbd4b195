"""The cost of one operator call, in units that do not depend on a convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Cost(NamedTuple):
    """The operations of one call; costs add up field by field.

    A convention turns a cost into FLOPs when it is read; see `opcount.convention`.

    Attributes:
        macs: Real multiply-accumulates, ``acc += a * b``.
        arith: Other scalar operations: norms, pools, elementwise, biases, ...
        activations: Elements of the outputs of convolution- and matmul-like operators.

    Example:
        >>> Cost(macs=3) + Cost(macs=1, arith=2)
        Cost(macs=4, arith=2, activations=0)
        >>> 2 * Cost(macs=3)
        Cost(macs=6, arith=0, activations=0)
    """

    macs: int = 0
    arith: int = 0
    activations: int = 0

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.macs + other.macs, self.arith + other.arith, self.activations + other.activations)

    def __mul__(self, times: object) -> Cost:
        if not isinstance(times, int):
            return NotImplemented
        return Cost(self.macs * times, self.arith * times, self.activations * times)

    def __rmul__(self, times: object) -> Cost:
        return self * times


new_cost: Callable[[type[Cost], tuple[int, int, int]], Cost] = tuple.__new__
"""``new_cost(Cost, (macs, arith, activations))`` takes half the time of ``Cost(...)``: for hot paths."""
