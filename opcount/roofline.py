"""A count on a device: for each operator the time below which its arithmetic or its traffic cannot be done."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from opcount.coverage import plural
from opcount.devices import in_units
from opcount.escapes import printable, visible
from opcount.paths import ROOT, parents
from opcount.records import phases_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opcount.devices import Device
    from opcount.records import Module, Record, Stage

K = TypeVar("K")


class Floor(NamedTuple):
    """The least time for some operators, each run on its own; floors add up.

    Attributes:
        seconds: Eager roofline time: for each operator the longer of its two times.
        compute: Seconds of their arithmetic at the device's peaks.
        memory: Seconds of their minimum traffic at its bandwidth.
        compute_bound: Those of ``seconds`` that belong to operators bound by arithmetic.

    Example:
        >>> Floor.of(2.0, 3.0) + Floor.of(5.0, 1.0)
        Floor(seconds=8.0, compute=7.0, memory=4.0, compute_bound=5.0)
    """

    seconds: float = 0.0
    compute: float = 0.0
    memory: float = 0.0
    compute_bound: float = 0.0

    @classmethod
    def of(cls, compute: float, memory: float) -> Floor:
        """Return the floor of one operator."""
        return cls(max(compute, memory), compute, memory, compute if compute > memory else 0.0)

    @property
    def bound(self) -> str:
        """``"compute"`` or ``"memory"``: what bounds the operators that take most of the time; ``""`` without any."""
        if not self.seconds:
            return ""
        return "compute" if 2 * self.compute_bound > self.seconds else "memory"

    def __add__(self, other: object) -> Floor:
        if not isinstance(other, Floor):
            return NotImplemented
        return Floor(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, repr=False)
class Roofline:
    """A count on a device, as `Profile.on` returns it. All times are floors: no code is predicted by them.

    Attributes:
        records: What was counted.
        modules: By path.
        device: Whose peaks are taken.
        stages: Of generated text, by phase.
    """

    records: tuple[Record, ...]
    modules: Mapping[str, Module]
    device: Device
    stages: Mapping[str, Stage] = field(default_factory=dict)

    def floor(self, record: Record) -> Floor:
        """Return the floor of one record, all its calls together."""
        compute = 0.0
        if record.cost.macs and self.device.has_peak(record.dtype):
            compute = 2 * record.cost.macs / self.device.peak(record.dtype)
        return Floor.of(compute, (record.bytes_read + record.bytes_written) / self.device.bandwidth)

    @cached_property
    def total(self) -> Floor:
        """The floor of the whole."""
        return sum(map(self.floor, self.records), Floor())

    @property
    def seconds(self) -> float:
        """Eager roofline time: a floor for unfused code."""
        return self.total.seconds

    @property
    def bound(self) -> str:
        """``"compute"`` or ``"memory"``: what bounds the operators that take most of the time."""
        return self.total.bound

    @property
    def speed_of_light(self) -> float:
        """Seconds below which no fusion goes: all arithmetic, or parameters, inputs and outputs moved once.

        Parameters and the rest are taken for what operators move where that is less, such as of an embedding. Inputs
        and outputs are those of the model's first call, in the parameters' mean size of an element.
        """
        moved = sum(record.bytes_read + record.bytes_written for record in self.records)
        return max(self.total.compute, min(least_traffic(self.modules), moved) / self.device.bandwidth)

    def share(self, floor: Floor) -> float:
        """Return the share of the eager roofline time, from 0 to 1."""
        return floor.seconds / self.seconds if self.seconds else 0.0

    def by_module(self) -> dict[str, Floor]:
        """Return the floor of every module by path, children included."""
        floors = dict.fromkeys(self.modules, Floor())
        for record in self.records:
            floor = self.floor(record)
            for path in parents(record.path):
                floors[path] = floors.get(path, Floor()) + floor
        return floors

    def by_operator(self) -> dict[tuple[str, str], Floor]:
        """Return the floor of every operator in every dtype, the longest first."""
        floors = self._group(lambda record: (record.operator, record.dtype))
        return dict(sorted(floors.items(), key=lambda item: -item[1].seconds))

    def by_phase(self) -> dict[str, Floor]:
        """Return the floor of every phase."""
        floors = self._group(lambda record: record.phase)
        return {phase: floors[phase] for phase in phases_in_order(floors)}

    def least_seconds(self, phase: str) -> float:
        """Return the time below which no code generates the tokens of a phase: its arithmetic, or weights and cache."""
        return max(self.by_phase()[phase].compute, self.stages[phase].least_bytes / self.device.bandwidth)

    @property
    def without_peak(self) -> dict[tuple[str, str], int]:
        """Calls of the operators whose arithmetic has no time, for the device has no peak in their dtype."""
        calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        for record in self.records:
            if record.cost.macs and not self.device.has_peak(record.dtype):
                calls[record.operator, record.dtype] += record.calls
        return dict(calls)

    def verdict(self) -> str:
        """Return one line: every operator has a time, or the names of those whose dtype has no peak.

        Example:
            >>> from opcount.devices import Device
            >>> Roofline((), {}, Device.find("T4")).verdict()
            'every dtype has a peak on T4'
        """
        if not self.without_peak:
            return f"every dtype has a peak on {printable(self.device.name)}"
        names = ", ".join(
            f"{printable(operator)} in {printable(dtype) or 'no dtype'} ({plural(calls, 'call')})"
            for (operator, dtype), calls in sorted(self.without_peak.items())
        )
        device = printable(self.device.name)
        return f"no peak on {device}, so that only their traffic counts and times are lower bounds: {names}"

    def lines(self) -> Iterator[str]:
        """Yield the times of the whole, the device with its peaks, and the operators without a peak."""
        device, total = self.device, self.total
        part = 100 * total.compute_bound / total.seconds if total.seconds else 0.0
        yield (
            f"eager roofline time: {duration(total.seconds)} ({part:.3g} % bound by compute); "
            f"speed of light: {duration(self.speed_of_light)}"
        )
        phases = self.by_phase()
        if len(phases) > 1:
            times = (f"{printable(phase)} {duration(each.seconds)}" for phase, each in phases.items())
            yield f"phases: {', '.join(times)}"
        for phase, stage in self.stages.items():
            if phase not in phases:
                continue
            rates = (rate(stage.tokens, seconds) for seconds in (phases[phase].seconds, self.least_seconds(phase)))
            yield "{}: at most {} by the eager roofline time, {} if weights and cache move once a call".format(
                printable(phase), *rates
            )
        used = dict.fromkeys(record.dtype for record in self.records if record.cost.macs)
        peaks = [f"{dtype} {in_units(device.peak(dtype))}FLOP/s" for dtype in used if device.has_peak(dtype)]
        numbers = ", ".join([*peaks, f"{in_units(device.bandwidth)}B/s"])
        yield f"device: {visible(device.name)} ({numbers}; {visible(device.source)})"
        yield f"peaks: {self.verdict()}"

    def __str__(self) -> str:
        """Return the times of the whole, the device with its peaks, and the operators without a peak."""
        return "\n".join(self.lines())

    def _group(self, key: Callable[[Record], K]) -> dict[K, Floor]:
        floors: dict[K, Floor] = {}
        for record in self.records:
            name = key(record)
            floors[name] = floors.get(name, Floor()) + self.floor(record)
        return floors


def rate(tokens: int, seconds: float) -> str:
    """Format tokens by their time.

    Example:
        >>> rate(32, 0.08), rate(1, 0.0)
        ('400.0 tokens/s', 'any number of tokens/s')
    """
    return f"{tokens / seconds:,.1f} tokens/s" if seconds else "any number of tokens/s"


def least_traffic(modules: Mapping[str, Module]) -> float:
    """Return the bytes of the parameters, and of the inputs and outputs of the model's first call."""
    root = modules.get(ROOT)
    if root is None:
        return 0.0
    size = root.param_bytes / root.params if root.params else 0.0
    return root.param_bytes + size * (_elements(root.inputs) + _elements(root.outputs))


def duration(seconds: float) -> str:
    """Format a time with the unit of its size.

    Example:
        >>> duration(0.0), duration(2.5e-10), duration(1.25e-3), duration(90.0)
        ('0 s', '250.000 ps', '1.250 ms', '90.000 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("ps", 1e-12)):
        if seconds >= scale:
            return f"{seconds / scale:.3f} {unit}"
    return f"{seconds:.3g} s"


def _elements(shapes: str) -> int:
    """Return the number of elements of tensors, ``"1x3x224x224, 1x5"``."""
    return sum(prod(map(int, shape.split("x"))) for shape in re.findall(r"\b\d+(?:x\d+)*\b", shapes))
