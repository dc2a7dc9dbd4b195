"""FLOPs by the peak that they are divided by, and utilization: the share of a device's peak that was reached."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

from opcount.errors import DeviceError, InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from opcount.devices import Device
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


def model_macs(record: Record, causal: str = "full") -> int:
    """Return the multiply-accumulates of a record that are the model's own."""
    del causal
    return 0 if record.phase == "recompute" else record.cost.macs


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
            sums[dtype] = Flops(model + 2 * model_macs(record, causal), hardware + 2 * record.cost.macs)
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
