"""Verdict of a fit: what a count needs of a device, line by line, and what remains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from opcount.devices import in_units
from opcount.errors import DeviceError, InputError
from opcount.escapes import printable, visible
from opcount.fit.overheads import (
    BIAS_SOURCE,
    CONTEXT,
    CONTEXT_SOURCE,
    WORKSPACE_SOURCE,
    has_caching_allocator,
    workspaces,
    workspaces_of_biases,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.devices import Device
    from opcount.fit.allocations import AllocationLog, Replay
    from opcount.live_memory import LiveMemory

FITS, TOO_LARGE, LOWER_BOUND = "fits", "does not fit", "lower bound only"

_REMEDY = 'Count with OpCounter(model, memory="log"), or with opcount fit.'


class Part(NamedTuple):
    """Bytes that a program takes of a device.

    Attributes:
        name: What they are.
        bytes: Their number.
        source: Where it comes from.
    """

    name: str
    bytes: int
    source: str


@dataclass(frozen=True)
class Fit:
    """Needs of a count on a device, line by line, and the verdict.

    Attributes:
        device: The device, whose memory is known.
        parts: What it needs; they add up to `needed`.
        has_room: Whether all allocations of the replay found room.
        retries: Times that the allocator has to give cached segments back.
        unknown: What is not known: the count may need more.
        replay: The replay through the allocator's rules; of all memory that is left where it fits.
    """

    device: Device
    parts: tuple[Part, ...]
    has_room: bool
    retries: int
    unknown: tuple[str, ...]
    replay: Replay

    @property
    def needed(self) -> int:
        """Bytes of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def memory(self) -> int:
        """Bytes of the device."""
        return self.device.memory or 0

    @property
    def margin(self) -> int:
        """Bytes that are left; negative: that are missing."""
        return self.memory - self.needed

    @property
    def verdict(self) -> str:
        """``"fits"``, ``"does not fit"``, or ``"lower bound only"``: what is known has room."""
        if not self.has_room:
            return TOO_LARGE
        return LOWER_BOUND if self.unknown else FITS

    @property
    def fits(self) -> bool:
        """True if it is known to fit."""
        return self.verdict == FITS

    def lines(self) -> Iterator[str]:
        """Yield the parts, each with its source, the device and the verdict."""
        total = Part("needed", self.needed, "the sum")
        memory = Part(visible(self.device.name), self.memory, visible(self.device.source))
        rows = [(part.name, f"{in_units(part.bytes)}B", part.source) for part in (*self.parts, total, memory)]
        name, size = (max(len(row[column]) for row in rows) for column in (0, 1))
        for row in rows:
            yield f"{row[0]:{name}}  {row[1]:>{size}}  {row[2]}"
        for reason in self.unknown:
            yield f"not known: {printable(reason)}"
        yield self.summary()

    def summary(self) -> str:
        """Return the verdict and the margin in one line."""
        size = abs(self.margin)
        exact = f"{size:,} B, " if size >= 1000 else ""
        share = f"{in_units(size)}B ({exact}{100 * size / self.memory:.1f} %)"
        verdict = f"verdict: {self.verdict} on {visible(self.device.name)}: {share}"
        if self.has_room:
            often = "once" if self.retries == 1 else f"{self.retries} times"
            return f"{verdict} left{f', if the allocator gives cached segments back {often}' if self.retries else ''}"
        scattered = self.needed - self.replay.reserved + self.replay.allocated <= self.memory
        return f"{verdict} too much{', but cached memory that is in pieces too small for the program' * scattered}"

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(self.lines())


def check_device(device: Device) -> Device:
    """Return a device on which it can be said what fits.

    Raises:
        DeviceError: The size of its memory is not known, or another allocator serves it.
    """
    if device.memory is None:
        raise DeviceError(
            f"fit: expected a device whose memory is known, got {device.name!r} without. "
            f"Give it: dataclasses.replace(device, memory=24e9), or `memory = 24e9` in its file."
        )
    if not has_caching_allocator(device):
        raise DeviceError(
            f"fit: expected a device that PyTorch's caching allocator serves, got {device.name!r}. "
            f"Compare `memory.peak` with its memory instead."
        )
    return device


def fit_of(memory: LiveMemory | None, phases_of_biases: set[str], device: Device) -> Fit:
    """Return whether a count has room on a device.

    Raises:
        DeviceError: The size of the device's memory is not known, or another allocator serves it.
        InputError: The count has no log of its allocations.
    """
    log = _log_of(memory)
    check_device(device)
    products, biases = workspaces(device, log.workspaces), workspaces_of_biases(phases_of_biases)
    own = products + biases
    room = (device.memory or 0) - CONTEXT
    free = log.replay(None, own)
    bound = free if free.reserved <= room else log.replay(room, own)
    replay = bound if bound.fits else free
    parts = (
        Part("live bytes", replay.requested - sum(own), f"storages at the peak of {len(log)} allocations and frees"),
        *(Part("cuBLAS workspace", size, WORKSPACE_SOURCE) for size in products),
        *(Part("cuBLASLt workspace", size, BIAS_SOURCE) for size in biases),
        Part("rounding", replay.allocated - replay.requested, "512 B, and up to 1 MiB of a block that is not split"),
        Part("cached", replay.reserved - replay.allocated, "segments beyond what is in use (replay of the allocator)"),
        Part("CUDA context", CONTEXT, CONTEXT_SOURCE),
    )
    return Fit(device, parts, bound.fits, bound.retries if bound.fits else 0, _unknown(memory, log), replay)


def _log_of(memory: LiveMemory | None) -> AllocationLog:
    if memory is None or memory.log is None:
        found = "without live bytes" if memory is None else "with live bytes, but without the order of allocations"
        raise InputError(f"fit: expected a count with a log of its allocations, got one {found}. {_REMEDY}")
    return memory.log


def _unknown(memory: LiveMemory | None, log: AllocationLog) -> tuple[str, ...]:
    """Return what a count may need beyond its log."""
    operators = () if memory is None else memory.unknown
    unknown = [f"the workspace of {name}" for name in operators]
    if log.cut:
        unknown.append(f"{log.cut} allocations and frees after those that were kept")
    return tuple(unknown)
