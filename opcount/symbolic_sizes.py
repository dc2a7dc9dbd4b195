"""Conversion of symbolic counts to plain numbers, at the sizes of the run; the provenance names these sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.coverage import UNCOUNTED
from opcount.interceptor.symbolic import least_of, sizes_in, value_of
from opcount.records import SYMBOLIC_MACS, SYMBOLIC_SIZES

if TYPE_CHECKING:
    from opcount.records import Module, Record

_NUMBERS = {int}


class SymbolicSizes:
    """The symbolic sizes of one count, and their values.

    A data-dependent size has no value: the work of an operator that depends on it is left out, and the operator is
    uncounted.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int | None] = {}
        self._macs: Any = 0

    def settle(self, record: Record) -> Record:
        """Return the record with plain numbers."""
        sent = record.collective
        payload = () if sent is None else (sent.buffer_bytes,)
        counts = (*record.cost, record.bytes_written, record.bytes_read, record.repeated, record.causal, *payload)
        self._macs += record.cost.macs
        if {*map(type, counts)} == _NUMBERS:
            return record
        for count in counts:
            self._sizes |= sizes_in(count)
        family = record.family if all(value_of(count) is not None for count in record.cost) else UNCOUNTED
        return record._replace(
            family=family,
            cost=Cost(*map(_settled, record.cost)),
            bytes_written=_settled(record.bytes_written),
            bytes_read=_settled(record.bytes_read),
            repeated=_settled(record.repeated),
            causal=_settled(record.causal),
            collective=sent and sent._replace(buffer_bytes=_settled(sent.buffer_bytes)),
        )

    def settle_module(self, module: Module) -> Module:
        """Return a module with plain numbers of parameters."""
        if type(module.params) is int:
            return module
        params, trainable, written = map(_settled, (module.params, module.trainable, module.param_bytes))
        return module._replace(params=params, trainable=trainable, param_bytes=written)

    def facts(self) -> dict[str, str]:
        """Return the entries for the profile's provenance; empty without symbolic sizes."""
        if not self._sizes:
            return {}
        sizes = ", ".join(f"{name} {'unknown' if n is None else f'= {n}'}" for name, n in self._sizes.items())
        return {SYMBOLIC_SIZES: sizes, SYMBOLIC_MACS: str(self._macs)}


def _settled(count: Any) -> int:
    value = value_of(count)
    return least_of(count) if value is None else value


def dimensions(shape: tuple[Any, ...] | None) -> str:
    """Format a shape, expressions in parentheses."""
    if shape is None:
        return "nested"
    return "x".join(f"({size})" if " " in str(size) else str(size) for size in shape) or "scalar"
