"""The cost of one operator call, in units that do not depend on a convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class _Operations(NamedTuple):
    macs: int = 0
    arith: int = 0
    activations: int = 0


class Cost(_Operations):
    """The operations of one call; costs add up field by field.

    A convention turns a cost into FLOPs when it is read; see `opcount.convention`.

    Attributes:
        macs: Real multiply-accumulates, ``acc += a * b``.
        arith: Other scalar operations: norms, pools, elementwise, biases, ...
        activations: Elements of the outputs of convolution- and matmul-like operators.
        bytes_read: Bytes that the call has to read, each operand once, where a formula states them; else None, and
            they are counted by the rule for all operators: each tensor argument. Not one of the fields.
        bytes_written: The same of the bytes that it has to write: each output.

    Example:
        >>> Cost(macs=3) + Cost(macs=1, arith=2)
        Cost(macs=4, arith=2, activations=0)
        >>> 2 * Cost(macs=3)
        Cost(macs=6, arith=0, activations=0)
        >>> Cost(arith=4, bytes_read=16, bytes_written=16) + Cost(bytes_read=8)
        Cost(macs=0, arith=4, activations=0, bytes_read=24, bytes_written=16)
    """

    __slots__ = ()

    bytes_read: int | None = None
    bytes_written: int | None = None

    def __new__(
        cls,
        macs: int = 0,
        arith: int = 0,
        activations: int = 0,
        *,
        bytes_read: int | None = None,
        bytes_written: int | None = None,
    ) -> Self:
        """Make a cost; one that states its traffic is of a subclass."""
        if bytes_read is None is bytes_written:
            return tuple.__new__(cls, (macs, arith, activations))
        cost = tuple.__new__(CostWithTraffic, (macs, arith, activations))
        cost.bytes_read, cost.bytes_written = bytes_read, bytes_written
        return cost  # type: ignore[return-value]

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(
            self.macs + other.macs,
            self.arith + other.arith,
            self.activations + other.activations,
            bytes_read=_sum(self.bytes_read, other.bytes_read),
            bytes_written=_sum(self.bytes_written, other.bytes_written),
        )

    def __mul__(self, times: object) -> Cost:
        if not isinstance(times, int):
            return NotImplemented
        read, written = self.bytes_read, self.bytes_written
        return Cost(
            self.macs * times,
            self.arith * times,
            self.activations * times,
            bytes_read=None if read is None else read * times,
            bytes_written=None if written is None else written * times,
        )

    def __rmul__(self, times: object) -> Cost:
        return self * times


class CostWithTraffic(Cost):
    """A cost that states its traffic."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.traffic == getattr(other, "traffic", None)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Cost.__hash__

    def __repr__(self) -> str:
        fields = {**self._asdict(), "bytes_read": self.bytes_read, "bytes_written": self.bytes_written}
        return f"Cost({', '.join(f'{name}={count}' for name, count in fields.items() if count is not None)})"

    @property
    def traffic(self) -> tuple[int | None, int | None]:
        """The bytes read and the bytes written."""
        return self.bytes_read, self.bytes_written


def _sum(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other


new_cost: Callable[[type[Cost], tuple[int, int, int]], Cost] = tuple.__new__
"""``new_cost(Cost, (macs, arith, activations))`` takes half the time of ``Cost(...)``: for hot paths."""
