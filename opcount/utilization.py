"""FLOPs by the peak that they are divided by, and utilization: the share of a device's peak that was reached."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

from opcount.devices import Device
from opcount.errors import DeviceError, InputError
from opcount.records import HasTotal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from opcount.records import Record

CAUSAL = ("full", "half")
"""Conventions for causal attention among model FLOPs: as the kernel is asked, or the half that the mask leaves."""

CONVOLUTIONS, PRODUCTS = "convolutions", "products"
"""The two kinds of float32 arithmetic that PyTorch lets run as TF32, each by a setting of its own."""


class Flops(NamedTuple):
    """Floating-point operations, two for each multiply-accumulate.

    Attributes:
        model: Of the model: without recomputation, and without what a fused attention backward computes again.
        hardware: All that ran.
    """

    model: float = 0
    hardware: float = 0

    def minus(self, other: Flops) -> Flops:
        """Return what was added since."""
        return Flops(self.model - other.model, self.hardware - other.hardware)


class HasFlops(HasTotal):
    """An object with records, which are read as model FLOPs, as hardware FLOPs and as utilization of a device."""

    def rated_records(self) -> tuple[Record, ...]:
        """Return the records.

        Raises:
            ProfileFormatError: It is not known what of them was computed again.
        """
        raise NotImplementedError

    @property
    def hardware_flops(self) -> int:
        """FLOPs of all products that ran, two for each MAC, whatever the convention."""
        return 2 * self.macs

    @property
    def model_flops(self) -> int:
        """Hardware FLOPs without the recompute phase, and without what a fused attention backward computes again."""
        return self.model_flops_when()

    def model_flops_when(self, *, causal: str = "full") -> int:
        """Return the model FLOPs, with causal attention as the kernel is asked, or halved.

        PaLM, nanoGPT and Megatron-LM count it in full, FlashAttention half of it. A mask that is a tensor is not looked
        at: only calls that are told ``is_causal`` are causal.

        Args:
            causal: ``"full"`` or ``"half"``.

        Raises:
            InputError: There is no such convention.
        """
        flops = flops_by_dtype(self.rated_records(), check_causal(causal))
        return int(sum(each.model for each in flops.values()))

    def mfu(self, seconds: float, device: Device | str, *, causal: str = "full") -> float:
        """Return the model FLOPs utilization, a share of 1, if what was counted took so many seconds.

        Args:
            seconds: On one device.
            device: A `Device`, or the name of one.
            causal: See `model_flops_when`.

        Raises:
            DeviceError: The device is not known, or has no peak for a dtype that computed.
            InputError: The seconds are no positive number.
        """
        flops = flops_by_dtype(self.rated_records(), check_causal(causal))
        return utilization({dtype: each.model for dtype, each in flops.items()}, seconds, Device.find(device))

    def hfu(self, seconds: float, device: Device | str) -> float:
        """Return the hardware FLOPs utilization, a share of 1, if what was counted took so many seconds; see `mfu`."""
        flops = flops_by_dtype(self.rated_records())
        return utilization({dtype: each.hardware for dtype, each in flops.items()}, seconds, Device.find(device))


def check_causal(causal: str) -> str:
    """Return a convention for causal attention.

    Raises:
        InputError: There is no such.
    """
    if causal in CAUSAL:
        return causal
    raise InputError(
        f"model FLOPs: expected causal to be one of {', '.join(map(repr, CAUSAL))}, got {causal!r}. Pass 'full' to "
        f"count causal attention as the kernel is asked, 'half' to count what the mask leaves."
    )


def _model_flops(record: Record, causal: str) -> int:
    if record.phase == "recompute":
        return 0
    return 2 * (record.cost.macs - record.repeated) - (record.causal if causal == "half" else 0)


def flops_by_dtype(records: Iterable[Record], causal: str = "full", as_tf32: Collection[str] = ()) -> dict[str, Flops]:
    """Return the FLOPs of records by dtype, those in float32 that run as TF32 as ``"tf32"``.

    Args:
        records: What was counted.
        causal: One of `CAUSAL`.
        as_tf32: The kinds of float32 arithmetic that run as TF32.
    """
    sums: dict[str, Flops] = {}
    for record in records:
        if record.cost.macs:
            dtype = record.dtype
            if dtype == "float32" and (CONVOLUTIONS if record.family == "conv" else PRODUCTS) in as_tf32:
                dtype = "tf32"
            model, hardware = sums.get(dtype, Flops())
            sums[dtype] = Flops(model + _model_flops(record, causal), hardware + 2 * record.cost.macs)
    return sums


def utilization(flops: Mapping[str, float], seconds: float, *devices: Device) -> float:
    """Return the sum over dtypes of FLOPs over the peak, of all devices together, over the seconds.

    Raises:
        InputError: The seconds are no positive number.
        DeviceError: A device has no peak for a dtype.
    """
    if not isinstance(seconds, Real) or isinstance(seconds, bool) or not isfinite(seconds) or seconds <= 0:
        raise InputError(
            f"utilization: expected a positive number of seconds, got {seconds!r} of type {type(seconds).__name__}. "
            f"Pass the time that these FLOPs took."
        )
    return sum(count / peak_of_all(dtype, *devices) for dtype, count in flops.items() if count) / float(seconds)


def peak_of_all(dtype: str, *devices: Device) -> float:
    """Return the sum of the devices' peaks.

    Raises:
        DeviceError: One has none for this dtype.
    """
    try:
        return sum(device.peak(dtype) for device in devices)
    except DeviceError as error:
        raise DeviceError(f"utilization: {error}") from error
