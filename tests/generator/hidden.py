"""Values that `torch.func` hides in its wrappers: dimensions mapped over, tangents, graphs of several levels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_functorch = torch._C._functorch


def layers(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a tensor, and what it wraps."""
    yield tensor
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
        yield tensor


def batches(tensor: Tensor) -> dict[int, int]:
    """Return the sizes of the dimensions that a tensor is mapped over, by the level of the map."""
    return {
        _functorch.maybe_get_level(layer): _functorch.get_unwrapped(layer).shape[_functorch.maybe_get_bdim(layer)]
        for layer in layers(tensor)
        if _functorch.is_batchedtensor(layer)
    }


def tangent(tensor: Tensor) -> Tensor | None:
    """Return the tangent of a tensor in forward mode."""
    if forward_ad._current_level < 0:
        return None
    return forward_ad.unpack_dual(tensor).tangent


def elements(tensor: Tensor) -> int:
    """Return how many elements a tensor has, those that are mapped over included."""
    return list(layers(tensor))[-1].numel()


def stored(tensor: Tensor) -> int:
    """Return how many numbers a tensor stores: for each block of a sparse one, all of them."""
    if tensor.layout == torch.strided:
        return tensor.numel()
    return tensor._nnz() * prod(tensor.values().shape[1:]) if tensor.layout != torch.sparse_coo else tensor._nnz()
