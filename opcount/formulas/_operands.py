"""What several families ask of their operands: real products of complex numbers, values on the host, nested sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_TWO_IN_A_BYTE = getattr(torch, "float4_e2m1fn_x2", None)


def real_macs(macs: int, operand: Tensor) -> int:
    """Return the real MACs: ``(a + bi) * (c + di)`` takes four."""
    return 4 * macs if operand.dtype.is_complex else macs


def has_data(x: Tensor) -> bool:
    """Return whether the tensor holds numbers that can be read: meta and fake tensors hold none."""
    return type(x) in _PLAIN and not x.is_meta


def host_ints(x: Tensor | None) -> list[int] | None:
    """Return the numbers of a small integer tensor, or None where there are none to be read."""
    if x is None or not has_data(x):
        return None
    with torch._C._DisableTorchDispatch():  # a real tensor has its values in a dry run, too
        values: list[int] = x.tolist()
    return values


def depth(a: Tensor) -> int:
    """Return the length of the rows of ``a``; four-bit floats lie two in an element."""
    k = a.shape[-1]
    return 2 * k if a.dtype is _TWO_IN_A_BYTE else k


def nested_sizes(x: Tensor) -> list[list[int]]:
    """Return the shape of each component of a (strided) nested tensor."""
    sizes: list[list[int]] = x._nested_tensor_size().tolist()
    return sizes
