"""Rows of a profile: the cost of an operator in one place, sums of costs, and facts about a module."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from opcount.cost import Cost

SYMBOLIC_SIZES, SYMBOLIC_MACS = "symbolic sizes", "symbolic MACs"
"""Keys in the provenance of a count with symbolic sizes: the values taken, and its MACs as an expression."""

INPUTS, BATCH, ASSUMED = "inputs", "batch size", "assumed"
"""Keys in the provenance: what the model was called with, its first dimension, the option that says another input."""

SHAPES = frozenset({"input", "output", "kernel"})
"""Columns of reports that show facts of one module alone, and no sums."""

GENERATION = "generation"
"""Key in the provenance of a count of generated text: how many tokens ran in which way, and what the cache holds."""

COMMAND = "command"
"""Key in the provenance of a count of the command line: its words, as a shell takes them."""

CALLED = "called"
"""Key in the provenance of a count whose model was never called while other work was done: ``"never"``, and the modules
that were called instead."""

TRAFFIC = ("bytes_read", "bytes_written", "traffic")
"""The numbers of a `Total` that are bytes."""

SENT = ("buffer_bytes", "bus_bytes")
"""The numbers of a `Total` that are bytes of collectives."""

UNKNOWN_TRAFFIC = "bytes read"
"""Key in the provenance of a count in a file of an older version, which counted the bytes written alone."""

_PHASE_ORDER = {"forward": 0, "backward": 2, "recompute": 3, "optimizer": 4}
"""The user's own phases come second."""


def phases_in_order(phases: Iterable[str]) -> list[str]:
    """Return phases once each, in the order in which a training step goes through them."""
    return sorted(dict.fromkeys(phases), key=lambda phase: _PHASE_ORDER.get(phase, 1))


def phases_of(records: Iterable[Record], start: str) -> set[str]:
    """Return the phases of the operators whose names have a start."""
    return {record.phase for record in records if record.operator.startswith(start)}


_TIMES_AROUND = {
    "all-reduce": 2,
    **dict.fromkeys(("all-gather", "reduce-scatter", "all-to-all", "gather", "scatter"), 1),
}
"""Number of times that a ring of n ranks sends ``(n - 1) / n`` of the payload over each link; others send it whole."""


class Collective(NamedTuple):
    """The kind of a collective, a send or a receive, its group, and the bytes that it moves.

    Attributes:
        kind: ``"all-reduce"``, ``"all-gather"``, ``"reduce-scatter"``, ``"all-to-all"``, ``"broadcast"``, ``"reduce"``,
            ``"gather"``, ``"scatter"``, ``"send"``, ``"recv"`` or ``"barrier"``.
        group: The ranks that take part: the dimension of a device mesh, ``"tp"``, else what the group is called.
        ranks: Their number; 0 where the operator does not say.
        issued: The path of the module that ran it, where that is not the one that it is for.
        buffer_bytes: Bytes of the payload of all calls together.
    """

    kind: str
    group: str
    ranks: int
    issued: str | None = None
    buffer_bytes: int = 0

    @property
    def bus_bytes(self) -> int:
        """Bytes over the link of one rank, as rings move them; none in a group of one rank.

        Example:
            >>> Collective("all-reduce", "dp", 4, buffer_bytes=1000).bus_bytes
            1500
        """
        times = _TIMES_AROUND.get(self.kind)
        if times is None or not self.ranks:
            return 0 if self.ranks == 1 else self.buffer_bytes
        return times * self.buffer_bytes * (self.ranks - 1) // self.ranks


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
        bytes_written: Bytes that all calls together have to write; 0 for views.
        shapes: Shapes of the first call, formatted: ``"(8x16, 16x4) -> 8x4"``.
        bytes_read: Bytes that all calls together have to read, each operand once a call; 0 for views.
        repeated: Those of the MACs that a fused backward computes again.
        causal: Those of the other MACs that belong to causal attention, of which half is masked.
        collective: What a collective moves; None of any other operator.
    """

    stack: tuple[str, ...]
    operator: str
    family: str
    phase: str
    dtype: str
    calls: int
    cost: Cost
    bytes_written: int = 0
    shapes: str = ""
    bytes_read: int = 0
    repeated: int = 0
    causal: int = 0
    collective: Collective | None = None

    @property
    def bytes(self) -> int:
        """The old name of `bytes_written`."""
        return self.bytes_written

    @property
    def path(self) -> str:
        """The module that ran the operator: the innermost of the stack."""
        return self.stack[-1]

    @property
    def key(self) -> tuple[Hashable, ...]:
        """The key by which records merge."""
        collective = self.collective
        return self[:5] if collective is None else (*self[:5], *collective[:4])


class Total(NamedTuple):
    """A sum over records.

    Attributes:
        macs: Multiply-accumulates.
        arith: Other scalar operations.
        flops: FLOPs under the profile's convention.
        activations: Elements of the outputs of convolution- and matmul-like operators, forward only.
        calls: Operator calls.
        bytes_written: Bytes that operators have to write.
        bytes_read: Bytes that operators have to read.
        buffer_bytes: Bytes of the payloads of collectives, sends and receives.
        bus_bytes: Bytes that these move over the link of one rank.
    """

    macs: int = 0
    arith: int = 0
    flops: int = 0
    activations: int = 0
    calls: int = 0
    bytes_written: int = 0
    bytes_read: int = 0
    buffer_bytes: int = 0
    bus_bytes: int = 0

    @property
    def bytes(self) -> int:
        """The old name of `bytes_written`."""
        return self.bytes_written

    @property
    def traffic(self) -> int:
        """Minimum traffic: bytes read and written when each operator touches each operand once."""
        return self.bytes_read + self.bytes_written

    @property
    def arithmetic_intensity(self) -> float:
        """Hardware FLOPs, two for each MAC, for each byte of minimum traffic; 0 where no MAC was counted."""
        if not self.macs:
            return 0.0
        return 2 * self.macs / self.traffic if self.traffic else math.inf

    def __add__(self, other: object) -> Total:
        if not isinstance(other, Total):
            return NotImplemented
        return Total(*(a + b for a, b in zip(self, other, strict=True)))


class HasTotal:
    """An object with a total, whose numbers are attributes of its own, too."""

    @property
    def total(self) -> Total:
        """The sum of all that was counted."""
        raise NotImplementedError

    @property
    def flops(self) -> int:
        """FLOPs under the convention."""
        return self.total.flops

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.total.macs

    @property
    def arith(self) -> int:
        """Scalar operations that are not multiply-accumulates."""
        return self.total.arith

    @property
    def activations(self) -> int:
        """Elements of the outputs of convolution- and matmul-like operators, forward only."""
        return self.total.activations

    @property
    def bytes_read(self) -> int:
        """Bytes that operators have to read, each operand once a call: caches and fusion are not considered."""
        return self.total.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes that operators have to write; 0 for views."""
        return self.total.bytes_written

    @property
    def arithmetic_intensity(self) -> float:
        """Hardware FLOPs, two for each MAC, for each byte that is read or written."""
        return self.total.arithmetic_intensity


class Module(NamedTuple):
    """Facts about one module.

    Attributes:
        path: Dotted, as in ``state_dict``; the root is ``""``.
        type: Its class's name.
        params: Elements of its parameters, children included, a tied one once under its first name.
        calls: Number of calls.
        aliases: Further paths of the same module.
        trainable: Those of the parameters that a gradient is computed for.
        param_bytes: Bytes of the parameters.
        kernel: Size of the window of a convolution or a pool, ``"3x3"``.
        inputs: Shapes of the tensors that it was called with first, ``"1x3x224x224"``.
        outputs: Shapes of the tensors that it returned then.
        weights: Shapes of its own parameters, ``"weight=64x3x7x7 bias=64"``.
        shards: Elements of the parameters, children included, of which each rank holds a part, by the dimension of the
            device mesh along which the parts lie; ``""`` has no name.
    """

    path: str
    type: str
    params: int = 0
    calls: int = 0
    aliases: tuple[str, ...] = ()
    trainable: int = 0
    param_bytes: int = 0
    kernel: str = ""
    inputs: str = ""
    outputs: str = ""
    weights: str = ""
    shards: tuple[tuple[str, int], ...] = ()


class Stage(NamedTuple):
    """A phase of generating text.

    Attributes:
        tokens: Tokens that ran, those of all texts of the batch together.
        least_bytes: Bytes of weights and cache that any code has to move: weights once a call of the model.
    """

    tokens: int
    least_bytes: int


_TOKENS_OF, _BYTES_OF = "tokens of ", "least bytes of "


def stage_facts(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Return stages by phase as facts of a provenance.

    Example:
        >>> stages(stage_facts({"decode": Stage(32, 1024)}))
        {'decode': Stage(tokens=32, least_bytes=1024)}
    """
    tokens = {f"{_TOKENS_OF}{phase}": str(stage.tokens) for phase, stage in stages.items()}
    return {**tokens, **{f"{_BYTES_OF}{phase}": str(stage.least_bytes) for phase, stage in stages.items()}}


def stages(provenance: Mapping[str, str]) -> dict[str, Stage]:
    """Return the stages that a provenance tells of, by phase; of joined counts, none."""
    phases = [key.removeprefix(_TOKENS_OF) for key in provenance if key.startswith(_TOKENS_OF)]
    numbers = {phase: (provenance[_TOKENS_OF + phase], provenance.get(_BYTES_OF + phase, "")) for phase in phases}
    return {phase: Stage(*map(int, both)) for phase, both in numbers.items() if all(text.isdecimal() for text in both)}


def merge(records: Iterable[Record]) -> tuple[Record, ...]:
    """Add up the records that have the same key."""
    rows: dict[Hashable, Record] = {}
    for record in records:
        key = record.key
        row = rows.get(key)
        if row is not None:
            record = row._replace(  # noqa: PLW2901  (the sum takes the record's place)
                calls=row.calls + record.calls,
                cost=row.cost + record.cost,
                bytes_written=row.bytes_written + record.bytes_written,
                bytes_read=row.bytes_read + record.bytes_read,
                repeated=row.repeated + record.repeated,
                causal=row.causal + record.causal,
                collective=_plus(row.collective, record.collective),
            )
        rows[key] = record
    return tuple(rows.values())


def _plus(one: Collective | None, other: Collective | None) -> Collective | None:
    if one is None or other is None:
        return None
    return one._replace(buffer_bytes=one.buffer_bytes + other.buffer_bytes)
