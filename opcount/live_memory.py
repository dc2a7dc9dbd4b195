"""Live memory of a count: the peak, what it is made of, the peaks of phases and modules, and how it ran."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from opcount.paths import parents
from opcount.records import phases_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opcount.fit.allocations import AllocationLog

PARAMETERS, BUFFERS, GRADIENTS, OPTIMIZER_STATE = "parameters", "buffers", "gradients", "optimizer state"
SAVED, INPUTS, OUTPUTS, TEMPORARIES = "saved activations", "inputs", "outputs", "temporaries"

CATEGORIES = (PARAMETERS, BUFFERS, GRADIENTS, OPTIMIZER_STATE, SAVED, INPUTS, OUTPUTS, TEMPORARIES)
"""Purposes of live bytes, in the order of reports."""

BEFORE = "before"
"""The phase of what was alive when the block was entered."""


class LiveBytes(NamedTuple):
    """Bytes alive at the peak that were made in one place.

    Attributes:
        path: The module that made or owns them; the root is ``""``.
        operator: The overload that made them; ``""`` for what was alive before.
        phase: In which they were made: ``"forward"``, ..., or ``"before"``.
        category: One of `CATEGORIES`.
        bytes: Their number.
    """

    path: str
    operator: str
    phase: str
    category: str
    bytes: int


class AllocatorPeak(NamedTuple):
    """The peak of live bytes by the account of the allocator itself, in a real run.

    Attributes:
        bytes: The most bytes that were allocated at once, as they were asked for.
        inside_kernels: Those beyond the peak of storages: what kernels and libraries allocate for themselves.
        allocated: On CUDA the most bytes of blocks, rounded up: what ``torch.cuda.max_memory_allocated`` returns.
        reserved: On CUDA the most bytes of segments: what ``torch.cuda.max_memory_reserved`` returns.
    """

    bytes: int
    inside_kernels: int
    allocated: int = 0
    reserved: int = 0


@dataclass(frozen=True)
class LiveMemory:
    """Live bytes of a count on one device: storages as operators allocated them, without the allocator's rounding.

    Attributes:
        peak: The most bytes that were alive at once.
        records: What they were, each place and category once; they add up to the peak.
        phase_peaks: The most bytes that were alive while a phase ran.
        module_peaks: The most bytes that were alive, of whomever, while a module ran, its children included.
        curve: The most live bytes in each of the equal stretches that the run is cut into.
        allocations: How many allocations the curve spans.
        device: Where: ``"cpu"``, ``"cuda:0"``; in a dry run the device that it is for, ``"H100-SXM5-80GB"``, or ``""``.
        elsewhere: The peaks of the other devices.
        saved: Saved activations when a backward began, by the module and the operator that made them; of the backward
            that found most.
        unknown: Operators of a dry run whose workspace nobody knows: the peak is a lower bound.
        log: Allocations and frees in order, for `Profile.fits`; None if they were not kept.
        allocator: The peak by the allocator's own account; None if it was not asked.
    """

    peak: int = 0
    records: tuple[LiveBytes, ...] = ()
    phase_peaks: Mapping[str, int] = field(default_factory=dict)
    module_peaks: Mapping[str, int] = field(default_factory=dict)
    curve: tuple[int, ...] = ()
    allocations: int = 0
    device: str = ""
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    saved: tuple[LiveBytes, ...] = ()
    unknown: tuple[str, ...] = ()
    log: AllocationLog | None = None
    allocator: AllocatorPeak | None = None

    def by_category(self) -> dict[str, int]:
        """Return the bytes at the peak by what they are for, those of none left out."""
        sums = _sums(self.records, lambda record: record.category)
        return {category: sums[category] for category in CATEGORIES if category in sums}

    def by_module(self) -> dict[str, int]:
        """Return the bytes at the peak by the module that made or owns them, children included."""
        return _sums_of_modules(self.records)

    def by_operator(self) -> dict[str, int]:
        """Return the bytes at the peak by the operator that made them; ``""`` made what was alive before."""
        return _sums(self.records, lambda record: record.operator)

    def by_phase(self) -> dict[str, int]:
        """Return the bytes at the peak by the phase that made them; `phase_peaks` are the peaks of the phases."""
        sums = _sums(self.records, lambda record: record.phase)
        return {phase: sums[phase] for phase in (BEFORE, *phases_in_order(sums.keys() - {BEFORE})) if phase in sums}

    def saved_by_module(self) -> dict[str, int]:
        """Return the saved activations by the module that made them, children included, as a backward found them."""
        return _sums_of_modules(self.saved)

    def saved_by_operator(self) -> dict[str, int]:
        """Return the saved activations by the operator that made them, as a backward found them, the most first."""
        sums = _sums(self.saved, lambda record: record.operator)
        return dict(sorted(sums.items(), key=lambda each: -each[1]))

    def select(self, keep: Callable[[LiveBytes], bool]) -> dict[str, int]:
        """Return the bytes at the peak of some records, by category."""
        return replace(self, records=tuple(filter(keep, self.records))).by_category()

    def merged(self, other: LiveMemory) -> LiveMemory:
        """Return the memory of two counts, of ranks or of steps: the higher of each peak, and what it is made of."""
        higher, lower = (self, other) if self.peak >= other.peak else (other, self)
        return replace(
            higher,
            phase_peaks=_highest(higher.phase_peaks, lower.phase_peaks),
            module_peaks=_highest(higher.module_peaks, lower.module_peaks),
            elsewhere=_highest(higher.elsewhere, lower.elsewhere),
            saved=max((higher.saved, lower.saved), key=lambda rows: sum(row.bytes for row in rows)),
            unknown=tuple(dict.fromkeys((*higher.unknown, *lower.unknown))),
        )


def merge_memory(left: LiveMemory | None, right: LiveMemory | None) -> LiveMemory | None:
    """Return the memory of two counts, of which one may not have been asked for it."""
    if left is None or right is None:
        return left or right
    return left.merged(right)


def _sums_of_modules(records: Iterable[LiveBytes]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for path, number in _sums(records, lambda record: record.path).items():
        for parent in parents(path):
            sums[parent] = sums.get(parent, 0) + number
    return sums


def _sums(records: Iterable[LiveBytes], key: Callable[[LiveBytes], str]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for record in records:
        name = key(record)
        sums[name] = sums.get(name, 0) + record.bytes
    return sums


def _highest(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: max(left.get(name, 0), right.get(name, 0)) for name in {**left, **right}}
