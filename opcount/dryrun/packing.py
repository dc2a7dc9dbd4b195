"""Packed sequences: their sizes depend on lengths alone, which are known where the program made them of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount.interceptor import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    Known = Callable[[Tensor], Tensor | None]


def _pack(known: Known, input: Tensor, lengths: Tensor, _batch_first: bool) -> Any:  # noqa: A002, FBT001  (PyTorch's)
    """Return the steps of all sequences in one, and how many run at each step.

    The latter is a real tensor: the kernels of recurrent networks read it where no dispatch mode sees them.
    """
    value = known(lengths)
    if value is None:
        return UNKNOWN
    with torch._C._DisableTorchDispatch():
        counts = [int((value > step).sum()) for step in range(int(value.max()))]
        steps = torch.tensor(counts)
        total = int(value.sum())
    rest = input.shape[2:]
    return input.new_empty((total, *rest)), steps


def _pad(  # the arguments are PyTorch's
    known: Known,
    data: Tensor,
    batch_sizes: Tensor,
    batch_first: bool,  # noqa: FBT001
    _padding: Any,
    total_length: int,
) -> Any:
    """Return padded sequences, and the length of each."""
    value = known(batch_sizes)
    if value is None:
        return UNKNOWN
    counts = value.tolist()
    batch, steps = counts[0], max(total_length, len(counts))
    size = (batch, steps) if batch_first else (steps, batch)
    with torch._C._DisableTorchDispatch():
        lengths = torch.tensor([sum(count > i for count in counts) for i in range(batch)])
    return data.new_empty((*size, *data.shape[1:])), lengths


PACKING: dict[str, Callable[..., Any]] = {
    "aten._pack_padded_sequence.default": _pack,
    "aten._pad_packed_sequence.default": _pad,
}
