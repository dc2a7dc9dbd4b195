"""Numbers of scalars that a call works on: in a tensor, in a list of tensors, in a sparse tensor."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import dispatch_disabled
from opcount.cost import Cost, new_cost
from opcount.registry import BUILTIN, Formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from opcount.registry import Pricing

_STRIDED = torch.strided


def scalars(value: Any) -> int:
    """Return the scalars that are stored in a tensor, or in the tensors of a list; 0 for anything else.

    Only the stored values of a sparse tensor are computed with, so only these count.
    """
    if isinstance(value, torch.Tensor):
        return value.numel() if value.layout is _STRIDED else stored(value)
    if isinstance(value, (list, tuple)):
        try:
            return sum([x.numel() if x.layout is _STRIDED else stored(x) for x in value])
        except AttributeError:  # of what is no tensor
            return sum(map(scalars, value))
    return 0


def stored(tensor: Tensor) -> int:
    """Return the stored values of a tensor of any layout."""
    with dispatch_disabled():  # other counters are not to see what this asks
        if tensor.layout is torch.sparse_coo:
            return tensor._nnz() * math.prod(tensor.shape[tensor.sparse_dim() :])
        if tensor.layout in _COMPRESSED:
            return tensor.values().numel()
        return tensor.numel()


_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def is_sparse(tensor: Tensor) -> bool:
    """Return whether a tensor is of a sparse layout."""
    return tensor.layout is torch.sparse_coo or tensor.layout in _COMPRESSED


def broadcast_shape(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """Return the shape that two shapes broadcast to.

    Example:
        >>> broadcast_shape((2, 1, 4), (3, 4))
        [2, 3, 4]
    """
    pairs = zip_longest(reversed(a), reversed(b), fillvalue=1)
    return [right if left == 1 else left for left, right in pairs][::-1]


def log2_ceil(n: int) -> int:
    """Return the comparisons that a binary search among ``n`` sorted numbers takes."""
    return (n - 1).bit_length() if n > 1 else 0


def per_output(times: int) -> Pricing:
    """Make a formula of ``times`` scalar operations for each element of the first output."""

    def price(out: Any, /, *args: Any, **_: Any) -> Cost:
        if out is None:
            return new_cost(Cost, (0, times * scalars(args[0]), 0))
        first = out[0] if isinstance(out, tuple) else out
        return new_cost(Cost, (0, times * scalars(first), 0))

    price.__doc__ = f"{_operations(times)} for each output element"
    setattr(price, "times", times)  # noqa: B010  (functions have any attribute, their type has not)
    return price


def per_input(times: int) -> Pricing:
    """Make a formula of ``times`` scalar operations for each element of the first input."""

    def price(_out: Any, x: Any, /, *_: Any, **__: Any) -> Cost:
        return new_cost(Cost, (0, times * scalars(x), 0))

    price.__doc__ = f"{_operations(times)} for each input element"
    return price


def register(family: str, price: Pricing, targets: Sequence[str]) -> None:
    """Register one formula of ``family`` for many operators."""
    for target in targets:
        BUILTIN.add(target, Formula(price, family))


def register_function(family: str, names: str, forward: Pricing, backward: Pricing) -> None:
    """Register the formulas of functions of autograd, and of their backward, by the names of their classes."""
    for name in names.split():
        register(family, forward, [f"autograd.{name}"])
        register(family, backward, [f"autograd.{name}Backward"])


def is_tensor(value: object) -> bool:
    """Return whether an argument that may be absent is a tensor with elements."""
    return isinstance(value, torch.Tensor) and value.numel() > 0


def _operations(times: int) -> str:
    return "one operation" if times == 1 else f"{times} operations"
