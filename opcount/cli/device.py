"""``opcount device``: the devices whose peaks are known, one of them, or this machine as it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cli.output import write
from opcount.devices import PEAK_NAMES, Device, known_devices
from opcount.errors import InputError
from opcount.reporter.columns import plain

if TYPE_CHECKING:
    import argparse

_NOTE = "Dense peaks in TFLOP/s; bandwidth in GB/s, memory in GB. `opcount device NAME` shows the source."


def run(options: argparse.Namespace) -> int:
    """Print a table of devices, or one as an entry of a file that ``--on`` reads."""
    if options.measure:
        if options.device_name is not None:
            raise InputError(
                f"device: expected a name or --measure, got {options.device_name!r} and --measure. Leave one out."
            )
        write(f"{Device.measure(options.device).to_toml()}\n", options.output)
        return 0
    if options.device is not None:
        raise InputError(f"device: expected --device beside --measure, got {options.device!r} alone. Add --measure.")
    if options.device_name is None:
        write(_table(known_devices()), options.output)
    else:
        write(f"{Device.find(options.device_name).to_toml()}\n", options.output)
    return 0


def _table(devices: tuple[Device, ...]) -> str:
    names = [name for name in PEAK_NAMES if any(name in device.peaks for device in devices) and "_" not in name]
    rows = [
        [
            device.name,
            f"{(device.memory or 0) / 1e9:g}",
            f"{device.bandwidth / 1e9:g}",
            *(f"{device.peaks[name] / 1e12:g}" if name in device.peaks else "-" for name in names),
        ]
        for device in devices
    ]
    lines = [*plain(["device", "memory", "bandwidth", *names], rows, words=1), "", _NOTE]
    return "\n".join([*lines, ""])
