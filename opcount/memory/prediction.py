"""The device whose live bytes a dry run predicts."""

from __future__ import annotations

from opcount.devices import Device
from opcount.errors import CounterStateError, DeviceError


def predicted_device(device: Device | str | None, *, dry_run: bool, memory: bool | str) -> Device | None:
    """Return the CUDA device that a counter is given, by its name; None: it is given none.

    Raises:
        ValueError: The counter computes, or tracks no memory.
        DeviceError: The device is not known, or is no CUDA device.
    """
    if device is None:
        return None
    if not (dry_run and memory):
        raise ValueError(
            f"OpCounter: expected device beside dry_run=True and memory=True, got device={device!r}, "
            f"dry_run={dry_run!r} and memory={memory!r}: a real run has a device, and nothing but live bytes is "
            f"predicted. Add both, or leave device out."
        )
    found = Device.find(device)
    if found.capability is None:
        raise DeviceError(
            f"{found.name}: expected a CUDA device, for PyTorch chooses operators by its compute capability, got a "
            f"device without one. Pass Device(..., capability=(9, 0)), or leave device out."
        )
    return found


def check_shared(capability: tuple[int, int] | None, device: Device | None) -> None:
    """Check that a dry run under way chooses the operators of a device.

    Raises:
        CounterStateError: It is for another one.
    """
    if device is not None and device.capability != capability:
        raise CounterStateError(
            f"OpCounter: expected the dry run that this block is in to be for {device.name}, got one that chooses the "
            f"operators of another device. Give the outer counter the same device."
        )
