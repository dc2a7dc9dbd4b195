"""The table of live bytes at the peak: by category, by phase and by module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.escapes import printable
from opcount.paths import ROOT, parents_first
from opcount.records import phases_in_order
from opcount.reporter.columns import plain
from opcount.reporter.numbers import percent, si

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.live_memory import AllocatorPeak, LiveMemory
    from opcount.profile import Profile

UNTRACKED = "live bytes were not tracked: count with --memory, or OpCounter(memory=True)"

_LEAST = 0.001
"""The share of the peak below which a module has no row."""


def render(profile: Profile) -> str:
    """Return the peak of live bytes as text: what it is for, the peaks of the phases, and whose it is.

    Example:
        >>> from opcount.profile import Profile
        >>> render(Profile())
        'live bytes were not tracked: count with --memory, or OpCounter(memory=True)'
    """
    memory = profile.memory
    steps = [] if profile.steps is None else [profile.steps.verdict()]
    if memory is None:
        return "\n".join([UNTRACKED, *steps])
    tables = [_by_category(memory), _by_phase(memory), _by_module(memory)]
    return "\n".join([*("\n".join([*table, ""]) for table in tables), *memory_lines(profile), *steps])


def memory_lines(profile: Profile) -> Iterator[str]:
    """Yield the peak and what it is for in one line, and the peaks of other devices; nothing if none was tracked."""
    memory = profile.memory
    if memory is None:
        return
    where = f" on {memory.device}" if memory.device else ""
    parts = sorted(memory.by_category().items(), key=lambda part: -part[1])
    shown = ", ".join(f"{category} {si(size, 'B')}" for category, size in parts)
    yield f"peak of live bytes{where}: {si(memory.peak, 'B')}{f': {shown}' if shown else ''}"
    if memory.allocator is not None:
        yield _by_allocator(memory.allocator)
    if memory.saved:
        most = list(memory.saved_by_operator().items())[:3]
        made = ", ".join(f"{printable(name)} {si(size, 'B')}" for name, size in most)
        yield f"saved for backward: {si(sum(row.bytes for row in memory.saved), 'B')}, most by {made}"
    if memory.unknown:
        yield f"lower bound: a dry run does not know the workspace of {', '.join(map(printable, memory.unknown))}"
    if memory.elsewhere:
        peaks = (f"{name} {si(size, 'B')}" for name, size in memory.elsewhere.items())
        yield f"peaks elsewhere: {', '.join(peaks)}"


def _by_allocator(peak: AllocatorPeak) -> str:
    cuda = f"; {si(peak.allocated, 'B')} in blocks, {si(peak.reserved, 'B')} reserved" if peak.reserved else ""
    return f"peak of the allocator: {si(peak.bytes, 'B')}, {si(peak.inside_kernels, 'B')} inside kernels{cuda}"


def memory_changes(old: LiveMemory, new: LiveMemory) -> list[str]:
    """Return the change of the peak in a line, and one for each category that changed: where it did most.

    Example:
        >>> from opcount.live_memory import LiveBytes, LiveMemory
        >>> made = LiveBytes("layers.0.mlp", "aten.gelu.default", "forward", "saved activations", 3000)
        >>> old, new = LiveMemory(3000, (made,)), LiveMemory(9000, (made._replace(bytes=9000),))
        >>> for line in memory_changes(old, new):
        ...     print(line)
        peak of live bytes: 3.000 kB -> 9.000 kB (+6.000 kB)
          +6.000 kB saved activations in layers.0
    """
    if old.records == new.records:
        return []
    lines = [f"peak of live bytes: {si(old.peak, 'B')} -> {si(new.peak, 'B')} ({_signed(new.peak - old.peak)})"]
    changes: dict[str, dict[str, int]] = {}
    for sign, memory in ((-1, old), (1, new)):
        for record in memory.records:
            paths = changes.setdefault(record.category, {})
            paths[record.path] = paths.get(record.path, 0) + sign * record.bytes
    for category, paths in sorted(changes.items(), key=lambda each: -abs(sum(each[1].values()))):
        change = sum(paths.values())
        if change:
            places = _by_place(paths)
            most = max(places, key=lambda place: abs(places[place]))
            part = "" if places[most] == change else f", {_signed(places[most])} of it"
            lines.append(f"  {_signed(change)} {category}{part} in {printable(most)}")
    return lines


def _by_place(changes: dict[str, int]) -> dict[str, int]:
    """Return changes by place: modules with consecutive names are one, ``layers.0-31``, up to the first number.

    Example:
        >>> _by_place({"layers.0.mlp": 2, "layers.1": 3, "layers.2": 0, "head": 1, "": 0})
        {'layers.0-1': 5, 'head': 1}
    """
    sums: dict[str, int] = {}
    numbers: dict[str, set[int]] = {}
    for path, change in changes.items():
        if not change:
            continue
        numbered = re.match(r"((?:[^.]*[.])*?)([0-9]+)(?![^.])", path)
        place = f"{numbered[1]}*" if numbered else path or "(all)"
        sums[place] = sums.get(place, 0) + change
        if numbered:
            numbers.setdefault(place, set()).add(int(numbered[2]))
    return {place.replace("*", _span(numbers.get(place, set()))): change for place, change in sums.items()}


def _span(numbers: set[int]) -> str:
    return "-".join(map(str, dict.fromkeys((min(numbers), max(numbers))))) if numbers else "*"


def _signed(size: int) -> str:
    return f"{'+' if size >= 0 else ''}{si(size, 'B')}"


def _by_category(memory: LiveMemory) -> Iterator[str]:
    rows = [[name, si(size, "B"), percent(size, memory.peak)] for name, size in memory.by_category().items()]
    return plain(["category", "at the peak", "%"], rows, words=1)


def _by_phase(memory: LiveMemory) -> Iterator[str]:
    made = memory.by_phase()
    phases = [phase for phase in made if phase not in memory.phase_peaks] + phases_in_order(memory.phase_peaks)
    peaks = {name: si(size, "B") for name, size in memory.phase_peaks.items()}
    rows = [[printable(name), peaks.get(name, "-"), si(made.get(name, 0), "B")] for name in phases]
    return plain(["phase", "its peak", "made of the peak"], rows, words=1)


def _by_module(memory: LiveMemory) -> Iterator[str]:
    sizes = memory.by_module()
    large = [path for path in parents_first(sizes) if path in sizes and sizes[path] >= _LEAST * memory.peak]
    saved = memory.saved_by_module()
    rows = [
        [
            "  " * (path.count(".") + 1) + printable(path.rpartition(".")[2]) if path != ROOT else "(all)",
            si(sizes[path], "B"),
            percent(sizes[path], memory.peak),
            si(memory.module_peaks[path], "B") if path in memory.module_peaks else "-",
            si(saved[path], "B") if path in saved else "-",
        ]
        for path in large
    ]
    return plain(["module", "made of the peak", "%", "peak while it ran", "saved for backward"], rows, words=1)
