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

_WITH_LARGE_WORKSPACE = {9, 10, 12}
_NO_CUDA = re.compile(r"TPU", re.IGNORECASE)

_WORKSPACE_OF_BIASES = MiB
"""Bytes for a product to which a bias is added, by cuBLASLt."""

WORKSPACE_SOURCE = "one for each thread: 8.1 MiB, on Hopper and Blackwell 32 MiB (PyTorch's CublasHandlePool.cpp)"
BIAS_SOURCE = "one for each thread that adds a bias to a product (PyTorch's CublasHandlePool.cpp)"
CONTEXT = 1_360_000_000
CONTEXT_SOURCE = "estimate: 1.34 to 1.36 GB on an H200 with CUDA 13 and cuDNN 9.19, of which 0.55 before any kernel"


def workspaces(device: Device, threads: int) -> tuple[int, ...]:
    """Return the bytes of each workspace of cuBLAS: one for each thread that multiplies, of which backward is another.

    A device whose compute capability is not known has the larger ones.

    Example:
        >>> from opcount.devices import Device
        >>> workspaces(Device.find("L4"), 2), workspaces(Device.find("H100-SXM5"), 1)
        ((8519680, 8519680), (33554432,))
    """
    small = device.capability is not None and device.capability[0] not in _WITH_LARGE_WORKSPACE
    return (_WORKSPACE if small else _LARGE_WORKSPACE,) * threads


def workspaces_of_biases(phases: Iterable[str]) -> tuple[int, ...]:
    """Return the bytes of each workspace of cuBLASLt, by the phases in which biases are added to products.

    Example:
        >>> workspaces_of_biases(["forward", "backward", "recompute"]), workspaces_of_biases(["forward"])
        ((1048576, 1048576), (1048576,))
    """
    return (_WORKSPACE_OF_BIASES,) * len({phase in {"backward", "recompute"} for phase in phases})


def has_caching_allocator(device: Device) -> bool:
    """Return whether PyTorch's caching allocator serves a device: not a TPU."""
    return not _NO_CUDA.match(device.name)
