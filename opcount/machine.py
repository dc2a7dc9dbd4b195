"""The device that PyTorch computes on: its name, and its peaks as they are measured."""

from __future__ import annotations

import platform
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from opcount.coverage import plural
from opcount.devices import Device, unknown_device
from opcount.errors import DeviceError
from opcount.utilization import CONVOLUTIONS, PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

_PRODUCTS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_SIZES = (256, 512, 1024, 2048, 4096, 8192)
_ARRAY = 128 * 1024**2
"""Bytes of an array that is copied: more than caches hold."""

_ROUNDS = 5


def current_device(device: object = None) -> Device:
    """Return the device that PyTorch computes on; see `Device.current`."""
    where = _where(device)
    name = device_name(where)
    try:
        found = Device.find(name)
    except DeviceError as error:
        raise unknown_device(name, "" if where.type == "cuda" else f" --device {where.type}") from error
    if name not in (found.name, *found.reports):  # the beginning of a name is a guess, and a device does not abbreviate
        raise unknown_device(name)
    return replace(found, memory=torch.cuda.get_device_properties(where).total_memory)


def device_name(where: torch.device) -> str:
    """Return the name that a device gives itself."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return _processor() if where.type == "cpu" else where.type


def place_of(model: nn.Module | None) -> torch.device:
    """Return the device that a model's parameters are on; without any, the one that PyTorch computes on."""
    first = None if model is None else next(model.parameters(), None)
    return first.device if first is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_tf32(where: torch.device) -> frozenset[str]:
    """Return the kinds of float32 arithmetic that PyTorch's settings let run as TF32 on a device."""
    if where.type != "cuda" or torch.cuda.get_device_capability(where) < (8, 0):
        return frozenset()
    kinds = {PRODUCTS} if torch.get_float32_matmul_precision() != "highest" else set()
    return frozenset(kinds | ({CONVOLUTIONS} if torch.backends.cudnn.allow_tf32 else set()))


def measured_device(device: object = None, budget: float = 1.0, clock: Callable[[], float] = perf_counter) -> Device:
    """Measure a device: the fastest product of two matrices in each dtype that it has, and its memory.

    Args:
        device: Where; None: the current CUDA device, else the CPU with as many threads as PyTorch has.
        budget: Seconds for each dtype, about.
        clock: ``time.thread_time`` where other programs compete for the processor that one thread measures.

    Raises:
        DeviceError: PyTorch does not compute there.
    """
    where = _where(device)
    now = partial(_now, where, clock)
    with _float32_products("highest"):
        peaks = {str(dtype): _fastest_product(where, dtype, budget, now) for dtype in _PRODUCTS}
    if where.type == "cuda":
        with _float32_products("high"):
            peaks["tf32"] = _fastest_product(where, torch.float32, budget, now)
    bandwidth = _memory_rate(where, budget, now)
    threads = f", {plural(torch.get_num_threads(), 'thread')}" if where.type == "cpu" else ""
    return Device(
        name=device_name(where),
        peaks={dtype: peak for dtype, peak in peaks.items() if peak},
        bandwidth=bandwidth,
        memory=torch.cuda.get_device_properties(where).total_memory if where.type == "cuda" else None,
        source=f"measured with PyTorch {torch.__version__}{threads}",
    )


def _where(device: object) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where: torch.device = torch.device(device)  # type: ignore[call-overload]  # whether it is one is asked
        torch.empty(1, device=where).sum().item()
    except (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise DeviceError(
            f"Device: expected a device of PyTorch that computes, got {device!r}: {str(error).splitlines()[0]} "
            f"Pass 'cpu', 'cuda', or 'cuda:1'."
        ) from error
    return where


def _processor() -> str:
    """Return the name of the CPU."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine() or "CPU"


@contextmanager
def _float32_products(precision: str) -> Iterator[None]:
    """Set whether float32 products may run as TF32 in the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _fastest_product(where: torch.device, dtype: torch.dtype, budget: float, now: Callable[[], float]) -> float:
    """Return the operations per second of the fastest product, of sizes that take longer and longer; 0: it has none.

    On a CPU a convolution may be faster: it counts, too.
    """
    best, spent, random = 0.0, 0.0, torch.Generator(where)
    for size in _SIZES:
        try:
            a, b = (torch.randn(size, size, dtype=dtype, device=where, generator=random) for _ in range(2))
            out = torch.empty_like(a)
            taken = _least_seconds(now, lambda: torch.mm(a, b, out=out))  # noqa: B023  (called at once)
        except RuntimeError:  # no such kernel, or no memory
            break
        best = max(best, 2 * size**3 / taken)
        spent += (_ROUNDS + 1) * taken
        if spent + 8 * (_ROUNDS + 1) * taken > budget:
            break
    return max(best, _convolution_rate(where, dtype, now)) if best and where.type == "cpu" else best


def _convolution_rate(where: torch.device, dtype: torch.dtype, now: Callable[[], float]) -> float:
    """Return the operations per second of a convolution, whose kernels are of another library; 0: it has none."""
    try:
        x, weight = (torch.ones(shape, dtype=dtype, device=where) for shape in ((8, 64, 56, 56), (64, 64, 3, 3)))
        with torch.no_grad():
            taken = _least_seconds(now, lambda: torch.conv2d(x, weight, padding=1), 0.2)
    except RuntimeError:
        return 0.0
    return 2 * x.numel() * weight[0].numel() / taken


def _memory_rate(where: torch.device, budget: float, now: Callable[[], float]) -> float:
    """Return the bytes per second that the fastest of a copy, a sum, a reduction and a product with a vector moves."""
    x, y, out = (torch.ones(_ARRAY // 4, device=where) for _ in range(3))
    matrix = x.view(1 << 12, -1)
    vector = matrix.new_ones(matrix.shape[1])
    runs: list[tuple[int, Callable[[], object]]] = [
        (2, lambda: out.copy_(x)),
        (3, lambda: torch.add(x, y, out=out)),
        (1, x.sum),
        (1, lambda: torch.mv(matrix, vector)),
    ]
    return max(arrays * x.nbytes / _least_seconds(now, run, budget / len(runs)) for arrays, run in runs)


def _least_seconds(now: Callable[[], float], run: Callable[[], object], budget: float = 0.0) -> float:
    """Return the shortest of several runs, after one that does not count."""
    best, started = float("inf"), perf_counter()
    rounds = 0
    while rounds <= _ROUNDS or perf_counter() - started < budget:
        begun = now()
        run()
        taken = now() - begun
        best = min(best, taken) if rounds else best
        rounds += 1
    return best


def _now(where: torch.device, clock: Callable[[], float]) -> float:
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return clock()
