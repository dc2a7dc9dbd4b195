"""Conversion of a tracker's accounts to frozen live memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.live_memory import LiveBytes, LiveMemory
from opcount.paths import parents

if TYPE_CHECKING:
    from opcount.memory.tracker import Tracker


def summary_of(tracker: Tracker) -> LiveMemory:
    """Return the live memory of the device that holds most, an accelerator first, and the peaks of the others."""
    peaks = {device: ledger.base + ledger.peak for device, ledger in list(tracker.ledgers.items())}
    if not peaks:
        return LiveMemory()
    device = max(peaks, key=lambda device: (_is_accelerator(device) and peaks[device] > 0, peaks[device]))
    ledger = tracker.ledgers[device]
    sums: dict[tuple[str, str, str, str], int] = {}
    phases: dict[str, int] = {}
    modules: dict[str, int] = {}
    for (place, plan, phase, category), row in list(ledger.rows.items()):
        path = place if isinstance(place, str) else place.path
        size = ledger.at_peak(row)
        if size:
            key = path, "" if plan is None else plan.operator, phase, category
            sums[key] = sums.get(key, 0) + size
        if row.was_touched:
            high = ledger.base + row.high
            phases[phase] = max(high, phases.get(phase, 0))
            for parent in parents(path):
                modules[parent] = max(high, modules.get(parent, 0))
    return LiveMemory(
        peaks[device],
        tuple(LiveBytes(*key, size) for key, size in sums.items()),
        phases,
        modules,
        ledger.curve(),
        ledger.events - ledger.start,
        "" if device is None else str(device),
        {str(other): peak for other, peak in peaks.items() if other is not device},
    )


def _is_accelerator(device: Any) -> bool:
    return device is not None and device.type not in {"cpu", "meta"}
