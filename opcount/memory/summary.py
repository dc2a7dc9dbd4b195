"""Conversion of a tracker's accounts to frozen live memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.live_memory import LiveBytes, LiveMemory
from opcount.paths import parents

if TYPE_CHECKING:
    from opcount.memory.allocator import Allocator
    from opcount.memory.ledger import Ledger
    from opcount.memory.tracker import Tracker

_WITH_WORKSPACE = {"mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"}


def summary_of(tracker: Tracker, allocator: Allocator | None = None) -> LiveMemory:
    """Return the live memory of the device that holds most, an accelerator first, and the peaks of the others.

    Args:
        tracker: Has the accounts.
        allocator: Has one of its own; None: it was not asked.
    """
    peaks = {device: ledger.base + ledger.peak for device, ledger in list(tracker.ledgers.items())}
    if not peaks:
        return LiveMemory()
    device = max(peaks, key=lambda device: (_is_accelerator(device) and peaks[device] > 0, peaks[device]))
    ledger = tracker.ledgers[device]
    sizes: dict[Any, int] = {}
    phases: dict[str, int] = {}
    modules: dict[str, int] = {}
    for (place, _, phase, _), row in list(ledger.rows.items()):
        path = place if isinstance(place, str) else place.path
        sizes[row.key] = ledger.at_peak(row)
        if row.was_touched:
            high = ledger.base + row.high
            phases[phase] = max(high, phases.get(phase, 0))
            for parent in parents(path):
                modules[parent] = max(high, modules.get(parent, 0))
    memory = LiveMemory(
        peaks[device],
        _rows(sizes),
        phases,
        modules,
        ledger.curve(),
        ledger.events - ledger.start,
        tracker.device if device is None else str(device),
        {str(other): peak for other, peak in peaks.items() if other is not device},
        _rows({row.key: size for row, size in ledger.saved.items()}),
        _unknown(ledger) if device is None else (),
        None if ledger.log is None else ledger.log.log(),
    )
    return memory if allocator is None else allocator.read(memory, ledger)


def _rows(sizes: dict[Any, int]) -> tuple[LiveBytes, ...]:
    """Return live bytes by place, plan, phase and category, those of one module and operator added up."""
    sums: dict[tuple[str, str, str, str], int] = {}
    for (place, plan, phase, category), size in sizes.items():
        path = place if isinstance(place, str) else place.path
        key = path, "" if plan is None else plan.operator, phase, category
        sums[key] = sums.get(key, 0) + size
    return tuple(LiveBytes(*key, size) for key, size in sums.items() if size)


def _unknown(ledger: Ledger) -> tuple[str, ...]:
    """Return the operators of a dry run that keep a workspace for their backward, which fake kernels do not know."""
    names = {plan.operator for _, plan, _, _ in list(ledger.rows) if plan is not None}
    return tuple(sorted(name for name in names if name.split(".")[1] in _WITH_WORKSPACE))


def _is_accelerator(device: Any) -> bool:
    return device is not None and device.type not in {"cpu", "meta"}
