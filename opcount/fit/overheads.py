"""Memory that a program takes on a device besides its tensors: workspaces of cuBLAS, and the CUDA context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.fit.caching import MiB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount.devices import Device

_LARGE_WORKSPACE, _WORKSPACE = 32 * MiB, 8 * MiB + 128 * 1024
"""Sizes for compute capability 9, 10 and 12, and for the others."""

_WITH_SMALL_WORKSPACE = re.compile(r"A100|A10|A10G|L4|L40|L40S|RTX ?[34]0\d0.*|T4|V100", re.IGNORECASE)
_NO_CUDA = re.compile(r"TPU", re.IGNORECASE)

WORKSPACE_SOURCE = "CublasHandlePool.cpp of PyTorch: 8.1 MiB, on Hopper and Blackwell 32 MiB"
CONTEXT = 600_000_000
CONTEXT_SOURCE = (
    "estimate: about 426 MiB before any kernel (PyTorch 2.10, CUDA 13, RTX 6000 Ada), and the kernels that are loaded"
)


def workspaces(device: Device, threads: int) -> tuple[int, ...]:
    """Return the bytes of each workspace of cuBLAS: one for each thread that multiplies, of which backward is another.

    A device whose generation is not known has the larger ones.

    Example:
        >>> from opcount.devices import Device
        >>> workspaces(Device.find("L4"), 2), workspaces(Device.find("H100-SXM5"), 1)
        ((8519680, 8519680), (33554432,))
    """
    small = _WITH_SMALL_WORKSPACE.fullmatch(re.sub(r"NVIDIA |GeForce |Tesla ", "", device.name).split("-")[0])
    return (_WORKSPACE if small else _LARGE_WORKSPACE,) * threads


def threads_that_multiply(phases: Iterable[str]) -> int:
    """Return how many threads call cuBLAS, by the phases of the products: autograd runs backward on one of its own.

    Example:
        >>> threads_that_multiply(["forward", "backward", "recompute"]), threads_that_multiply(["forward"])
        (2, 1)
    """
    return len({phase in {"backward", "recompute"} for phase in phases})


def has_caching_allocator(device: Device) -> bool:
    """Return whether PyTorch's caching allocator serves a device: not a TPU."""
    return not _NO_CUDA.match(device.name)
