"""Real tensors that a backward reaches in a dry run: what it did to them is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from opcount.dryrun.fakes import is_plain

if TYPE_CHECKING:
    from opcount.dryrun.snapshot import Undo


class _Leaf(NamedTuple):
    tensor: Tensor
    grad: Tensor | None
    requires_grad: bool
    data: Tensor | None


class Leaves:
    """Tensors with their gradients, as they were when the dry run first saw them.

    Attributes:
        plain: The ids of those that are strided and of PyTorch's own classes.
    """

    def __init__(self) -> None:
        self.plain: set[int] = set()
        self._leaves: dict[int, _Leaf] = {}

    def note(self, tensor: Tensor) -> None:
        """Remember a tensor, unless it was made by an operator."""
        if id(tensor) in self._leaves or not tensor.is_leaf:
            return
        with torch._C._DisableTorchDispatch():
            plain = is_plain(tensor)
            has_data = plain and not (tensor.is_meta or isinstance(tensor, FakeTensor))
            self._leaves[id(tensor)] = _Leaf(
                tensor, tensor.grad, tensor.requires_grad, tensor.data if has_data else None
            )
            if plain:
                self.plain.add(id(tensor))

    def restoring(self) -> list[Undo]:
        """Return what puts each tensor back."""
        return [(_restore, leaf.tensor, leaf) for leaf in self._leaves.values()]


def _restore(tensor: Tensor, before: _Leaf) -> None:
    data = before.data
    if data is not None and (tensor.is_meta or tensor.dtype != data.dtype or tensor.data_ptr() != data.data_ptr()):
        tensor.data = data
    if tensor.grad is not before.grad:
        tensor.grad = before.grad
    if tensor.requires_grad != before.requires_grad:
        tensor.requires_grad_(before.requires_grad)
