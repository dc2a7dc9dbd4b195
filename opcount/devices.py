"""Devices as data: peaks by dtype, bandwidth, memory, and source. An unknown device is an error, never a guess."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcount.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

PEAK_NAMES = (
    "float64", "float64_vector", "float32", "tf32", "float16", "float16_fp16acc", "bfloat16", "float8", "float4",
    "int4", "int8", "int16", "int32", "int64",
)  # fmt: skip
"""The keys of `Device.peaks`. ``tf32`` is float32 with TF32 allowed, ``float64_vector`` excludes matrix units."""

_SPELLINGS = {
    **{name: name for name in PEAK_NAMES},
    **dict.fromkeys(["fp64", "double", "complex128"], "float64"),
    **dict.fromkeys(["fp32", "float", "single", "complex64"], "float32"),
    **dict.fromkeys(["fp16", "half", "complex32"], "float16"),
    **dict.fromkeys(["uint8", "qint8", "quint8"], "int8"),
    **dict.fromkeys(["bf16", "bcomplex32"], "bfloat16"),
    "fp8": "float8",
    "fp4": "float4",
}
_IN_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_LEAST = 1e6
"""Smaller rates are written in another unit: no device computes or moves so little in a second."""

_TABLE = Path(__file__).with_name("devices.toml")
_MAKERS = re.compile(r"nvidia|geforce|tesla|amd|instinct")


@dataclass(frozen=True, kw_only=True)
class Device:
    """Peaks of one device.

    Attributes:
        name: Printed beside every percentage.
        peaks: Dense operations per second by dtype: ``{"bfloat16": 989.4e12}``. Other spellings of a dtype, ``"bf16"``
            or ``torch.bfloat16``, are accepted when a device is made.
        bandwidth: Bytes per second of its memory.
        memory: Bytes of its memory; None: not known.
        source: Where the numbers come from.
        reports: Names that the device gives itself.
        capability: Compute capability of a CUDA device, ``(9, 0)``; None: it is none, or not known.

    Raises:
        DeviceError: A peak or a bandwidth is no positive number, or a dtype is not known.

    Example:
        >>> Device(name="mine", peaks={"bf16": 2e12}, bandwidth=50e9).peak("bfloat16")
        2000000000000.0
    """

    name: str
    peaks: Mapping[str, float] = field(hash=False)
    bandwidth: float
    memory: int | None = None
    source: str = "given by the user"
    reports: tuple[str, ...] = ()
    capability: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise DeviceError(f"Device: expected a name, got {self.name!r}. Pass a string: reports print it.")
        try:
            peaks = [(peak_name(dtype), dtype, peak) for dtype, peak in self.peaks.items()]
        except AttributeError:
            peaks = []
        if not peaks:
            raise DeviceError(
                f"Device: expected peaks by dtype, got {self.peaks!r} of type {type(self.peaks).__name__}. "
                f"Pass a dict such as {{'bfloat16': 989.4e12, 'float32': 66.9e12}}."
            )
        known: dict[str, float] = {}
        for name, dtype, peak in peaks:
            rate = _rate(peak, f"peak of {dtype}", "FLOP/s, such as 989.4e12 for 989.4 TFLOP/s")
            if known.setdefault(name, rate) != rate:
                raise DeviceError(
                    f"Device: expected one peak of {name}, got {known[name]:g} and {rate:g}: {dtype} is the same. "
                    f"Leave one of them out."
                )
        set_attribute = object.__setattr__
        set_attribute(self, "peaks", known)
        set_attribute(self, "bandwidth", _rate(self.bandwidth, "bandwidth", "bytes/s, such as 3.35e12 for 3.35 TB/s"))
        if self.memory is not None:
            set_attribute(self, "memory", int(_rate(self.memory, "memory", "bytes, such as 80e9 for 80 GB")))
        if self.capability is not None:
            set_attribute(self, "capability", _capability(self.capability))

    def peak(self, dtype: object) -> float:
        """Return the operations per second in a dtype, ``"bfloat16"`` or ``torch.bfloat16``.

        Raises:
            DeviceError: The device has no peak for it, or there is no such dtype.
        """
        found = self.peaks.get(peak_name(dtype))
        if found is None:
            raise DeviceError(
                f"{self.name}: expected a dtype with a known peak ({', '.join(self.peaks)}), got {_plain(dtype)!r}. "
                f"Add it with device.with_peaks({{{peak_name(dtype)!r}: ...}}), in FLOP/s."
            )
        return found

    def has_peak(self, dtype: object) -> bool:
        """Return whether the device has a peak for a dtype; False for one that computes nothing, such as int64."""
        return _known_name(dtype) in self.peaks

    def with_peaks(self, peaks: Mapping[Any, float]) -> Device:
        """Return the same device with further peaks, or others.

        Example:
            >>> h100 = Device.find("H100-SXM5")
            >>> h100.with_peaks({"float32": h100.peak("tf32")}).peak("float32")
            494700000000000.0
        """
        named = {peak_name(dtype): peak for dtype, peak in peaks.items()}
        return replace(self, peaks={**self.peaks, **named}, source=f"{self.source}; {', '.join(named)} by the user")

    @staticmethod
    def find(name: Device | str) -> Device:
        """Return the device of a name: one that it gives itself, or one of opcount's, or the beginning of one.

        Raises:
            DeviceError: There is none, or there are several; near names are offered.

        Example:
            >>> Device.find("NVIDIA H100 80GB HBM3").name, Device.find("H100-SXM5").name
            ('H100-SXM5-80GB', 'H100-SXM5-80GB')
        """
        if isinstance(name, Device):
            return name
        if not isinstance(name, str):
            raise DeviceError(
                f"Device.find: expected the name of a device, got {name!r} of type {type(name).__name__}. "
                f"Pass one of {', '.join(device.name for device in known_devices())}, or a Device."
            )
        if name.endswith(".toml"):
            return _read_one(Path(name))
        found = _by_any_name().get(_squeezed(name))
        if found is not None:
            return found
        begun = [device for device in known_devices() if _begins(device.name, name)]
        if len(begun) == 1:
            return begun[0]
        raise _unknown(name, [device.name for device in begun])

    @staticmethod
    def current(device: object = None) -> Device:
        """Return the device that PyTorch computes on: the current CUDA device, or the one given.

        Its memory is what it has, not what its type is sold with.

        Raises:
            DeviceError: Its type is not known; there is no fallback.
        """
        from opcount.machine import current_device  # noqa: PLC0415  (asks PyTorch, which is slow to import)

        return current_device(device)

    @staticmethod
    def measure(device: object = None) -> Device:
        """Return this machine's device as it is measured, in a few seconds: products by dtype, and a copy.

        Args:
            device: A device of PyTorch; None: the current CUDA device, else the CPU.
        """
        from opcount.machine import measured_device  # noqa: PLC0415  (runs PyTorch, which is slow to import)

        return measured_device(device)

    def __str__(self) -> str:
        """Return the name, the peaks, the bandwidth, the memory and the source in one line."""
        peaks = ", ".join(f"{name} {in_units(peak)}FLOP/s" for name, peak in self.peaks.items())
        memory = "" if self.memory is None else f", {in_units(self.memory)}B"
        return f"{self.name}: {peaks}; {in_units(self.bandwidth)}B/s{memory} ({self.source})"

    def to_toml(self) -> str:
        """Return the device as an entry of a file that `find` reads, by a name that ends in ``.toml``.

        Example:
            >>> print(Device(name="mine", peaks={"bf16": 2e12}, bandwidth=50e9).to_toml())
            [[device]]
            name = "mine"
            reports = []
            bandwidth = 50e9
            source = "given by the user"
            <BLANKLINE>
            [device.peaks]
            bfloat16 = 2e12
        """
        lines = [f"name = {json.dumps(self.name)}", f"reports = {json.dumps(list(self.reports))}"]
        lines.append(f"bandwidth = {self.bandwidth / 1e9:.12g}e9")
        if self.memory is not None:
            lines.append(f"memory = {self.memory}")
        if self.capability is not None:
            lines.append(f"capability = {list(self.capability)}")
        lines.append(f"source = {json.dumps(self.source)}")
        peaks = [f"{name} = {peak / 1e12:.12g}e12" for name, peak in self.peaks.items()]
        return "\n".join(["[[device]]", *lines, "", "[device.peaks]", *peaks])


def peak_name(dtype: object) -> str:
    """Return the key of `Device.peaks` for a dtype, however it is spelled.

    Raises:
        DeviceError: It is none that devices have peaks for.

    Example:
        >>> peak_name("bf16"), peak_name("torch.float8_e4m3fn"), peak_name("complex64")
        ('bfloat16', 'float8', 'float32')
    """
    found = _known_name(dtype)
    if found is None:
        near = get_close_matches(_plain(dtype), _SPELLINGS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DeviceError(
            f"Device: expected a dtype out of {', '.join(PEAK_NAMES)}, got {dtype!r} of type {type(dtype).__name__}. "
            f"{hint}Write it as PyTorch does."
        )
    return found


def in_units(number: float) -> str:
    """Return a number with the prefix of its size.

    Example:
        >>> in_units(989.4e12), in_units(80e9), in_units(1555e9)
        ('989.4 T', '80 G', '1.555 T')
    """
    prefix = next(prefix for prefix, scale in reversed(_IN_UNITS.items()) if number >= scale or not prefix)
    return f"{number / _IN_UNITS[prefix]:.4g} {prefix}"


@cache
def known_devices() -> tuple[Device, ...]:
    """Return the devices of ``devices.toml``."""
    return tuple(_read(_TABLE))


def _rate(value: object, what: str, units: str) -> float:
    """Check a number per second, or of bytes."""
    if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(value) or value <= 0:
        raise DeviceError(
            f"Device: expected a positive number as {what}, got {value!r} of type {type(value).__name__}. "
            f"Pass it in {units}."
        )
    if value < _LEAST:
        raise DeviceError(f"Device: expected the {what} in {units}, got {value!r}. Pass it without a prefix.")
    return float(value)


def _capability(value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(type(part) is int for part in value):
        return value[0], value[1]
    raise DeviceError(
        f"Device: expected a compute capability of two numbers, got {value!r} of type {type(value).__name__}. "
        f"Pass it as torch.cuda.get_device_capability() returns it, such as (9, 0), or leave it out."
    )


def _plain(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _known_name(dtype: object) -> str | None:
    name = _plain(dtype)
    start = re.match(r"float[84](?=_)", name)
    return start[0] if start else _SPELLINGS.get(name)


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _MAKERS.sub("", name.lower()))


@cache
def _by_any_name() -> dict[str, Device]:
    return {_squeezed(name): device for device in known_devices() for name in (device.name, *device.reports)}


def _begins(name: str, start: str) -> bool:
    """Return whether a name begins with another one's words, the last of which may lack a number: ``H100-SXM``.

    Half a number never matches: an H20 is no H200.
    """
    words, begun = (re.findall(r"[a-z0-9]+", _MAKERS.sub("", each.lower())) for each in (name, start))
    if not begun or len(begun) > len(words) or words[: len(begun) - 1] != begun[:-1]:
        return False
    word, last = words[len(begun) - 1], begun[-1]
    return bool(word == last or (last[-1].isalpha() and word.startswith(last) and word[len(last) :].isdigit()))


def _unknown(name: str, several: list[str]) -> DeviceError:
    if several:
        return DeviceError(
            f"Device: expected one device, got {name!r}, which is any of {', '.join(several)}. Name one."
        )
    return unknown_device(name)


def unknown_device(name: str, measured: str = "") -> DeviceError:
    """Return the error for a device without known peaks, with near names and how to give the peaks."""
    spellings: dict[str, list[str]] = {}
    for device in known_devices():
        for each in (device.name, device.name.split("-")[0], *device.reports):
            spellings.setdefault(_squeezed(each), []).append(device.name)
    close = get_close_matches(_squeezed(name), spellings, n=3)
    near = dict.fromkeys(found for each in close for found in spellings[each])
    hint = f"Near names: {', '.join(near)}. " if near else ""
    return DeviceError(
        f"Device: expected a device with known peaks, got {name!r}. {hint}Give its dense peaks in FLOP/s and its "
        f"bandwidth in bytes/s: Device(name={name!r}, peaks={{'bfloat16': ..., 'float32': ...}}, bandwidth=...), or "
        f"measure it with `opcount device --measure{measured}`. `opcount device` lists the known ones."
    )


def _read_one(file: Path) -> Device:
    try:
        devices = _read(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(
            f"Device.find: {str(file)!r} cannot be read: {error}. Name a file that `opcount device --measure -o` wrote."
        ) from error
    if len(devices) != 1:
        raise DeviceError(
            f"Device.find: expected one device in {str(file)!r}, got {len(devices)}. Leave one [[device]] in it."
        )
    return devices[0]


def _read(file: Path) -> list[Device]:
    """Read the part of TOML that ``devices.toml`` is written in."""
    entries: list[dict[str, Any]] = []
    place: dict[str, Any] = {}
    for number, line in enumerate(map(str.strip, file.read_text(encoding="utf-8").splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        if line == "[[device]]":
            entries.append({"peaks": {}})
            place = entries[-1]
        elif line == "[device.peaks]" and entries:
            place = entries[-1]["peaks"]
        else:
            key, _, value = map(str.strip, line.partition("="))
            try:
                place[key] = json.loads(value)
            except ValueError as error:
                raise DeviceError(
                    f"Device.find: expected [[device]], [device.peaks] or `key = value` in line {number} of "
                    f"{file.name}, got {line!r}. Write values as JSON does: text in double quotes, numbers as 989.4e12."
                ) from error
    return [_entry(entry, file) for entry in entries]


def _entry(entry: dict[str, Any], file: Path) -> Device:
    entry.pop("basis", None)
    try:
        return Device(**{**entry, "reports": tuple(entry.get("reports", ()))})
    except TypeError as error:
        raise DeviceError(
            f"Device.find: expected name, peaks and bandwidth, and perhaps memory, source, reports and "
            f"capability, of each device in {file.name}, got {', '.join(entry)} ({error}). Complete the entry."
        ) from error
