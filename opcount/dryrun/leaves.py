"""Real tensors that a backward reaches in a dry run: what it did to them is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor

from opcount.dryrun.fakes import PLAIN, is_plain
from opcount.dryrun.snapshot import put_back_dict

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.dryrun.snapshot import Undo

    Leaf = tuple[Tensor, bool, Tensor | None, bool, Tensor | None, dict[str, Any]]
    """A tensor, whether it is a leaf, its gradient, whether it requires one, its data, and its attributes."""


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
        if id(tensor) not in self._leaves and tensor.is_leaf and not _is_wrapper(tensor):
            with torch._C._DisableTorchDispatch():
                self.add(tensor)

    def keep(self, tensor: Tensor) -> bool:
        """Remember any tensor before it is changed; tell whether its data are remembered."""
        with torch._C._DisableTorchDispatch():
            self.add(tensor)
        return self._leaves[id(tensor)][4] is not None

    def note_written(self, tensor: Tensor) -> None:
        """Remember a tensor that is written to: autograd then takes it, or what it is a view of, for a result."""
        base = tensor._base if tensor._is_view() and tensor._base is not None else tensor
        if type(base) in PLAIN and not is_functorch_wrapped_tensor(base):
            self.note(base)

    def add(self, tensor: Tensor) -> None:
        """Remember a tensor, as it was at first; call it with dispatch modes off."""
        name = id(tensor)
        if name in self._leaves:
            return
        data = None
        if is_plain(tensor) and not isinstance(tensor, FakeTensor):
            self.plain.add(name)
            if type(tensor) in PLAIN and not tensor.is_meta and not _is_wrapper(tensor):
                data = tensor.data
        is_leaf = tensor.is_leaf
        grad = tensor.grad if is_leaf else None
        self._leaves[name] = (tensor, is_leaf, grad, tensor.requires_grad, data, dict(vars(tensor)))

    def restoring(self) -> list[Undo]:
        """Return what puts each tensor back."""
        return [(_restore, leaf[0], leaf) for leaf in self._leaves.values()]


_is_wrapper: Callable[[Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
"""Whether a tensor stands for another one in a function transform: it has no memory, and ends with the transform."""


def _restore(tensor: Tensor, before: Leaf) -> None:
    _, is_leaf, grad, requires_grad, data, attributes = before
    if not (requires_grad or tensor.is_leaf):  # what requires gradients was written to it
        tensor.detach_()
    if data is not None and (tensor.is_meta or tensor.dtype != data.dtype or tensor.data_ptr() != data.data_ptr()):
        tensor.data = data
    if is_leaf and tensor.grad is not grad:
        tensor.grad = grad
    if tensor.requires_grad != requires_grad:
        tensor.requires_grad_(requires_grad)
    if attributes or vars(tensor):
        put_back_dict(vars(tensor), attributes)
