"""Rows of a profile: the cost of an operator in one place, sums of costs, and facts about a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from opcount.cost import Cost

SYMBOLIC_SIZES, SYMBOLIC_MACS = "symbolic sizes", "symbolic MACs"
"""Keys in the provenance of a count with symbolic sizes: the values taken, and its MACs as an expression."""

CALLED = "called"
"""Key in the provenance of a count whose model was never called while other work was done: ``"never"``, and the modules
that were called instead."""

_PHASE_ORDER = {"forward": 0, "backward": 2, "recompute": 3, "optimizer": 4}
"""The user's own phases come second."""


def phases_in_order(phases: Iterable[str]) -> list[str]:
    """Return phases once each, in the order in which a training step goes through them."""
    return sorted(dict.fromkeys(phases), key=lambda phase: _PHASE_ORDER.get(phase, 1))


class Record(NamedTuple):
    """All calls of one operator in one place.

    Attributes:
        stack: Paths of the modules that were running, the root ``""`` first.
        operator: The overload, ``"aten.mm.default"``.
        family: The formula's file, ``"matmul"``; or ``"free"``, or ``"uncounted"``.
        phase: ``"forward"``, ``"backward"``, ``"recompute"``, ``"optimizer"``, or the user's.
        dtype: The dtype that computes, ``"float32"``.
        calls: Number of calls.
        cost: Cost of all calls together.
        bytes: Bytes written by all calls together; 0 for views.
        shapes: Shapes of the first call, formatted: ``"(8x16, 16x4) -> 8x4"``.
    """

    stack: tuple[str, ...]
    operator: str
    family: str
    phase: str
    dtype: str
    calls: int
    cost: Cost
    bytes: int = 0
    shapes: str = ""

    @property
    def path(self) -> str:
        """The module that ran the operator: the innermost of the stack."""
        return self.stack[-1]

    @property
    def key(self) -> tuple[tuple[str, ...], str, str, str, str]:
        """The key by which records merge."""
        return self[:5]


class Total(NamedTuple):
    """A sum over records.

    Attributes:
        macs: Multiply-accumulates.
        arith: Other scalar operations.
        flops: FLOPs under the profile's convention.
        activations: Elements of the outputs of convolution- and matmul-like operators, forward only.
        calls: Operator calls.
        bytes: Bytes written.
    """

    macs: int = 0
    arith: int = 0
    flops: int = 0
    activations: int = 0
    calls: int = 0
    bytes: int = 0

    def __add__(self, other: object) -> Total:
        if not isinstance(other, Total):
            return NotImplemented
        return Total(*(a + b for a, b in zip(self, other, strict=True)))


class Module(NamedTuple):
    """Facts about one module.

    Attributes:
        path: Dotted, as in ``state_dict``; the root is ``""``.
        type: Its class's name.
        params: Elements of its parameters, children included, a tied one once under its first name.
        calls: Number of calls.
        aliases: Further paths of the same module.
    """

    path: str
    type: str
    params: int = 0
    calls: int = 0
    aliases: tuple[str, ...] = ()


def merge(records: Iterable[Record]) -> tuple[Record, ...]:
    """Add up the records that have the same key."""
    rows: dict[Hashable, Record] = {}
    for record in records:
        key = record.key
        row = rows.get(key)
        if row is not None:
            record = row._replace(  # noqa: PLW2901  (the sum takes the record's place)
                calls=row.calls + record.calls, cost=row.cost + record.cost, bytes=row.bytes + record.bytes
            )
        rows[key] = record
    return tuple(rows.values())
