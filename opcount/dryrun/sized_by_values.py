"""Operators whose result size depends on lengths, which may be known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.dispatch import dispatch_disabled
from opcount.dryrun.unknown import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Known = Callable[[Tensor], Tensor | None]
    Empty = Callable[[Sequence[int], Tensor], Tensor]


def _pack(known: Known, empty: Empty, data: Tensor, lengths: Tensor, _batch_first: bool) -> Any:  # noqa: FBT001
    """Return the concatenated steps of all sequences, and the batch size of each step.

    The latter is a real tensor: the kernels of recurrent networks read it where no dispatch mode sees them.
    """
    value = known(lengths)
    if value is None:
        return UNKNOWN
    with dispatch_disabled():
        counts = [int((value > step).sum()) for step in range(int(value.max()))]
        steps = torch.tensor(counts, device="cpu")
        total = int(value.sum())
    return empty((total, *data.shape[2:]), data), steps


def _unpack(  # the arguments are PyTorch's
    known: Known,
    empty: Empty,
    data: Tensor,
    batch_sizes: Tensor,
    batch_first: bool,  # noqa: FBT001
    _padding: Any,
    total_length: int,
) -> Any:
    """Return padded sequences and their lengths."""
    value = known(batch_sizes)
    if value is None:
        return UNKNOWN
    counts = value.tolist()
    batch, steps = counts[0], max(total_length, len(counts))
    size = (batch, steps) if batch_first else (steps, batch)
    with dispatch_disabled():
        lengths = torch.tensor([sum(count > i for count in counts) for i in range(batch)], device="cpu")
    return empty((*size, *data.shape[1:]), data), lengths


def _ctc_loss(
    known: Known, empty: Empty, log_probs: Tensor, _targets: Tensor, _inputs: Any, lengths: Any, *_: Any, **__: Any
) -> Any:
    """Return a loss for each sequence, and the probabilities of alignments with the longest target."""
    value = known(lengths) if isinstance(lengths, Tensor) else lengths
    if value is None:
        return UNKNOWN
    with dispatch_disabled():
        longest = max(value.tolist() if isinstance(value, Tensor) else value, default=0)
    steps, batch = (log_probs.shape[0], log_probs.shape[1]) if log_probs.dim() == 3 else (log_probs.shape[0], 1)
    return empty((batch,), log_probs), empty((batch, steps, 2 * longest + 1), log_probs)


def _ctc_loss_backward(_known: Known, empty: Empty, _grad: Tensor, log_probs: Tensor, *_: Any, **__: Any) -> Any:
    """Return the gradient of the probabilities."""
    return empty(log_probs.shape, log_probs)


def _bincount(known: Known, empty: Empty, data: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Any:
    """Return ``minlength`` counts, which a program sets to its number of classes."""
    if minlength <= 1 or known(data) is not None:
        return UNKNOWN
    dtype = torch.int64 if weights is None else torch.float32 if weights.dtype == torch.float32 else torch.float64
    with dispatch_disabled():
        like = torch.empty(0, dtype=dtype, device=data.device)
    return empty((minlength,), like)


SIZED_BY_VALUES: dict[str, Callable[..., Any]] = {
    "aten._pack_padded_sequence.default": _pack,
    "aten._pad_packed_sequence.default": _unpack,
    "aten.bincount.default": _bincount,
    "aten._ctc_loss.default": _ctc_loss,
    "aten._ctc_loss.Tensor": _ctc_loss,
    "aten._ctc_loss_backward.default": _ctc_loss_backward,
    "aten._ctc_loss_backward.Tensor": _ctc_loss_backward,
}
"""Functions by the operator's name. They get functions that find values and make results; may return `UNKNOWN`."""
