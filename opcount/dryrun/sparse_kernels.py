"""Questions to PyTorch: whether it has a kernel for sparse operands, which is not known by their shapes."""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled, state_before_modes
from opcount.dryrun.fakes import CPU, is_sparse
from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from opcount.dryrun.refusals import Refusals

_BLOCKS = {torch.sparse_bsr, torch.sparse_bsc}


def check_product(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], refusals: Refusals) -> None:
    """Raise what the kernel raises if one operand is sparse; refuse a product of several."""
    number = sum(map(is_sparse, tensors((args, *kwargs.values()))))
    if number > 1:
        raise refusals.refuse(func, "multiplies sparse tensors")
    if number:
        check_kernel(func, args, kwargs)


def check_kernel(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise what a kernel on the CPU raises for operands of such layouts and dtypes.

    It runs on a small matrix, or a vector of its size, in place of each operand.
    """
    found = list(tensors((args, *kwargs.values())))
    if any(t.device != CPU for t in found):
        return
    with state_before_modes(), dispatch_disabled(), autograd_disabled():  # autocast decides on products inside
        size = lcm(*(n for t in found for n in _block_of(t) or ()))
        func(*(_small(arg, size) for arg in args), **{name: _small(arg, size) for name, arg in kwargs.items()})


def _small(like: Any, size: int) -> Any:
    if not isinstance(like, Tensor):
        return like
    small = torch.ones((size,) * like.dim(), dtype=like.dtype)
    if like.layout is torch.strided:
        return small
    stores = small if like._nnz() else small.zero_()
    return stores.to_sparse(layout=like.layout, blocksize=_block_of(like))


def _block_of(tensor: Tensor) -> tuple[int, int] | None:
    """Return the rows and columns of a block of a tensor that stores blocks."""
    return tuple(tensor.values().shape[1:3]) if tensor.layout in _BLOCKS else None  # type: ignore[return-value]
