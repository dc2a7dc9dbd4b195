"""The cost of one operator call, in units that do not depend on a convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


_new = tuple.__new__
_ZERO = 0


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
        repeated: Those of the MACs that a fused backward computes again: no part of the model's FLOPs.
        causal: Those of the other MACs that belong to causal attention, of which half is masked.
        buffer_bytes: The payload of a collective; 0 of any other operator.

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
    repeated: int = 0
    causal: int = 0
    buffer_bytes: int = 0

    def __new__(
        cls,
        macs: int = 0,
        arith: int = 0,
        activations: int = 0,
        *,
        bytes_read: int | None = None,
        bytes_written: int | None = None,
        repeated: int = 0,
        causal: int = 0,
    ) -> Self:
        """Make a cost; one that states more than the fields is of a subclass."""
        if bytes_read is None is bytes_written and repeated is _ZERO is causal:  # by identity: most costs are such
            return _new(cls, (macs, arith, activations))
        details = bytes_read, bytes_written, repeated, causal
        if bytes_read is None is bytes_written and type(repeated) is type(causal) is int and not repeated + causal:
            return _new(cls, (macs, arith, activations))
        cost = tuple.__new__(DetailedCost, (macs, arith, activations))
        cost.bytes_read, cost.bytes_written, cost.repeated, cost.causal = details
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
            repeated=self.repeated + other.repeated,
            causal=self.causal + other.causal,
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
            repeated=self.repeated * times,
            causal=self.causal * times,
        )

    def __rmul__(self, times: object) -> Cost:
        return self * times


class DetailedCost(Cost):
    """A cost that states its traffic, or what of its MACs is repeated or causal."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.details == getattr(other, "details", _NO_DETAILS)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Cost.__hash__

    def __repr__(self) -> str:
        details = zip(DETAILS, self.details, _NO_DETAILS, strict=True)
        fields = {**self._asdict(), **{name: count for name, count, default in details if count != default}}
        return f"Cost({', '.join(f'{name}={count}' for name, count in fields.items())})"

    @property
    def details(self) -> tuple[int | None, int | None, int, int]:
        """The bytes read, the bytes written, the repeated MACs and the causal ones."""
        return self.bytes_read, self.bytes_written, self.repeated, self.causal


class CollectiveCost(Cost):
    """The cost of a collective: the bytes of its payload, and what else a fused one computes."""

    def __new__(cls, buffer_bytes: int, macs: int = 0, activations: int = 0) -> Self:
        """Make the cost of one call."""
        cost = tuple.__new__(cls, (macs, 0, activations))
        cost.buffer_bytes = buffer_bytes
        return cost


DETAILS = ("bytes_read", "bytes_written", "repeated", "causal")
_NO_DETAILS = (None, None, 0, 0)


def _sum(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other


new_cost: Callable[[type[Cost], tuple[int, int, int]], Cost] = tuple.__new__
"""``new_cost(Cost, (macs, arith, activations))`` takes half the time of ``Cost(...)``: for hot paths."""
