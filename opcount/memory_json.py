"""Live memory to data of JSON and back."""

from __future__ import annotations

import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from opcount import json_reader as reader
from opcount.fit import AllocationLog
from opcount.json_reader import MismatchError, structure
from opcount.live_memory import AllocatorPeak, LiveBytes, LiveMemory

if TYPE_CHECKING:
    from collections.abc import Callable


def dump_memory(memory: LiveMemory) -> dict[str, Any]:
    """Return live memory as data."""
    rows = {name: [row._asdict() for row in getattr(memory, name)] for name in ("records", "saved")}
    facts = {**vars(memory), **rows}
    log, allocator = facts.pop("log"), facts.pop("allocator")
    if log is None and allocator is None:
        return facts
    more = {
        "log": None if log is None else _dump_log(log),
        "allocator": None if allocator is None else allocator._asdict(),
    }
    return {**facts, **more}


def _dump_log(log: AllocationLog) -> dict[str, Any]:
    """Return a log as data: its events as little-endian 64-bit integers, compressed, in Base64."""
    events = b64encode(zlib.compress(_swapped(log.events), 9)).decode()
    return {"before": log.before, "events": events, "repeats": log.repeats, "cut": log.cut}


def _swapped(events: bytes) -> bytes:
    """Return 64-bit integers in little-endian order for the order of this machine, and the other way round."""
    numbers = array("q", events)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _memory(peak: int, records: tuple[LiveBytes, ...], *rest: Any) -> LiveMemory:
    if peak != (total := sum(record.bytes for record in records)):
        raise MismatchError(f"a peak of {total}, the sum of its records", peak)
    return LiveMemory(peak, records, *rest)


def _log(before: tuple[int, ...], events: bytes, *rest: Any) -> AllocationLog:
    log = AllocationLog(before, events, *rest)
    if fault := log.find_fault():
        raise MismatchError("allocations that a program can make", fault)
    return log


def _events(value: Any) -> bytes:
    try:
        return _swapped(zlib.decompress(b64decode(reader.text(value), validate=True)))
    except (ValueError, zlib.error) as error:
        raise MismatchError("compressed 64-bit integers in Base64", value) from error


_read_live = reader.sequence(
    structure(
        LiveBytes,
        path=reader.text,
        operator=reader.text,
        phase=reader.text,
        category=reader.text,
        bytes=reader.whole_number,
    )
)
_MEMORY: dict[str, Callable[[Any], Any]] = {
    "peak": reader.whole_number,
    "records": _read_live,
    "phase_peaks": reader.mapping(reader.whole_number),
    "module_peaks": reader.mapping(reader.whole_number),
    "curve": reader.sequence(reader.whole_number),
    "allocations": reader.whole_number,
    "device": reader.text,
    "elsewhere": reader.mapping(reader.whole_number),
    "saved": _read_live,
    "unknown": reader.sequence(reader.text),
}
_read_allocator = structure(
    AllocatorPeak,
    **dict.fromkeys(["bytes", "inside_kernels", "allocated", "reserved"], reader.whole_number),
)
_read_log = structure(
    _log,
    before=reader.sequence(reader.whole_number),
    events=_events,
    repeats=reader.whole_number,
    cut=reader.whole_number,
)


_read_whole = structure(_memory, **_MEMORY, log=reader.optional(_read_log), allocator=reader.optional(_read_allocator))


def read_memory(value: Any) -> LiveMemory:
    """Read live memory; before schema 6 it has neither a log nor the allocator's peak."""
    return _read_whole({"log": None, "allocator": None, **value} if type(value) is dict else value)
