"""Real tensors that a backward reaches in a dry run: what it did to them is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opcount.dryrun.fakes import PLAIN, is_plain

if TYPE_CHECKING:
    from opcount.dryrun.snapshot import Undo

    Leaf = tuple[Tensor, Tensor | None, bool, Tensor | None]
    """A tensor, its gradient, whether it requires one, and its data."""


class Leaves:
    """Tensors with their gradients, as they were when the dry run first saw them.

    Attributes:
        plain: The ids of those that are strided and of PyTorch's own classes.
    """

    def __init__(self) -> None:
        self.plain: set[int] = set()
        self._leaves: dict[int, Leaf] = {}

    def note(self, tensor: Tensor) -> None:
        """Remember a tensor that an operator was given, unless it was made by one."""
        if id(tensor) not in self._leaves and tensor.is_leaf:
            with torch._C._DisableTorchDispatch():
                self.add(tensor)

    def add(self, tensor: Tensor) -> None:
        """Remember a tensor; call it with dispatch modes off."""
        name = id(tensor)
        data = None
        if is_plain(tensor):
            self.plain.add(name)
            if type(tensor) in PLAIN and not tensor.is_meta:
                data = tensor.data
        self._leaves[name] = (tensor, tensor.grad, tensor.requires_grad, data)

    def restoring(self) -> list[Undo]:
        """Return what puts each tensor back."""
        return [(_restore, leaf[0], leaf) for leaf in self._leaves.values()]


def _restore(tensor: Tensor, before: Leaf) -> None:
    _, grad, requires_grad, data = before
    if data is not None and (tensor.is_meta or tensor.dtype != data.dtype or tensor.data_ptr() != data.data_ptr()):
        tensor.data = data
    if tensor.grad is not grad:
        tensor.grad = grad
    if tensor.requires_grad != requires_grad:
        tensor.requires_grad_(requires_grad)
