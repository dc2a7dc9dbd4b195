"""A reading of a meter: rates and utilization over some steps of a loop, on one rank or on all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opcount.devices import Device, in_units
from opcount.errors import DeviceError
from opcount.utilization import Flops, peak_of_all, utilization

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Reading:
    """Steps of a loop since the last reading. Rates are those of the steps that were timed: the others were counted.

    Attributes:
        steps: Steps that ran to their end.
        timed_steps: Of these, how many were timed.
        seconds: Time of these; across ranks, of the slowest one.
        flops: Estimated FLOPs of the timed steps by dtype, ``"tf32"`` for float32 that runs as TF32; across ranks,
            their sum.
        devices: One for each rank.
        tokens: Tokens of all steps; None if not every step said how many; across ranks, their sum.
        timed_tokens: Tokens of the timed steps.
    """

    steps: int
    timed_steps: int
    seconds: float
    flops: Mapping[str, Flops]
    devices: tuple[Device, ...]
    tokens: float | None = None
    timed_tokens: float | None = None

    @property
    def device(self) -> Device:
        """The device, or that of the first rank."""
        return self.devices[0]

    @property
    def peaks(self) -> dict[str, float]:
        """The peaks that FLOPs are divided by, by dtype: of all ranks together.

        Raises:
            DeviceError: A device has no peak for a dtype that computed.
        """
        return {dtype: peak_of_all(dtype, *self.devices) for dtype in self.flops}

    @property
    def steps_per_second(self) -> float:
        """Steps per second."""
        return self.timed_steps / self.seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second; None if not every step said how many it has."""
        return None if self.timed_tokens is None else self.timed_tokens / self.seconds

    @property
    def flops_per_second(self) -> float:
        """Hardware FLOPs per second: all that ran."""
        return sum(flops.hardware for flops in self.flops.values()) / self.seconds

    @property
    def model_flops_per_second(self) -> float:
        """Model FLOPs per second: without what was computed again."""
        return sum(flops.model for flops in self.flops.values()) / self.seconds

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization, a share of 1: the sum over dtypes of model FLOPs / peak, over the seconds.

        Raises:
            DeviceError: A device has no peak for a dtype that computed.
        """
        return utilization({dtype: flops.model for dtype, flops in self.flops.items()}, self.seconds, *self.devices)

    @property
    def hfu(self) -> float:
        """Hardware FLOPs utilization: the same of all that ran.

        Raises:
            DeviceError: A device has no peak for a dtype that computed.
        """
        return utilization({dtype: flops.hardware for dtype, flops in self.flops.items()}, self.seconds, *self.devices)

    def rates(self) -> dict[str, float]:
        """Return the rates as a logger takes them."""
        tokens = {} if self.tokens_per_second is None else {"tokens_per_second": self.tokens_per_second}
        return {"steps_per_second": self.steps_per_second, **tokens, "flops_per_second": self.flops_per_second}

    def metrics(self) -> dict[str, float]:
        """Return the rates and the utilization as a logger takes them.

        Raises:
            DeviceError: A device has no peak for a dtype that computed.
        """
        return {**self.rates(), "mfu": self.mfu, "hfu": self.hfu}

    def __str__(self) -> str:
        """Return one line: the rates, the utilization, and the device and peaks that it was divided by."""
        parts = [f"{self.steps} steps, {self.timed_steps} timed in {self.seconds:.4g} s"]
        if self.tokens_per_second is not None:
            parts.append(f"{in_units(self.tokens_per_second)}tokens/s")
        parts.append(f"{in_units(self.flops_per_second)}FLOP/s")
        try:
            peaks = ", ".join(f"{dtype} {in_units(peak)}FLOP/s" for dtype, peak in self.peaks.items())
            parts += [f"MFU {100 * self.mfu:.3g} %", f"HFU {100 * self.hfu:.3g} %"]
            of = f" of {self._devices()} ({peaks or 'no FLOPs'}; {self.device.source})"
        except DeviceError as error:
            of = f"; no MFU: {error}"
        return ", ".join(parts) + of

    def _devices(self) -> str:
        counts = {device.name: 0 for device in self.devices}
        for device in self.devices:
            counts[device.name] += 1
        return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def across_ranks(readings: Sequence[Reading]) -> Reading:
    """Return the reading of all ranks: FLOPs, tokens and peaks are added, and the slowest one's time is taken."""
    first, *others = readings
    flops = dict(first.flops)
    for reading in others:
        for dtype, (model, hardware) in reading.flops.items():
            known = flops.get(dtype, Flops())
            flops[dtype] = Flops(known.model + model, known.hardware + hardware)
    return replace(
        first,
        seconds=max(reading.seconds for reading in readings),
        flops=flops,
        devices=tuple(device for reading in readings for device in reading.devices),
        tokens=_sum([reading.tokens for reading in readings]),
        timed_tokens=_sum([reading.timed_tokens for reading in readings]),
    )


def _sum(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
