"""Restore real tensors that a backward reaches in a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.functorch import is_wrapped
from opcount._torch.tensors import accumulation_hooks_of, base_of, hooks_of_tensor, is_view
from opcount.dryrun.containers import put_back_dict
from opcount.dryrun.fakes import PLAIN, is_plain
from opcount.dryrun.tensors import DryTensor, wraps_fakes
from opcount.identity import identity
from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount.dryrun.containers import Undo

    Hooks = dict[str, tuple[dict[int, Any], dict[int, Any]]]
    """Dicts of hooks and their earlier contents, by attribute."""

    Leaf = tuple[Tensor, bool, Tensor | None, bool, dict[str, Any], Hooks]
    """A tensor, whether it is a leaf, its gradient, whether it requires one, its attributes, and its hooks."""


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")

_NO_HOOKS: Hooks = {}


class Leaves:
    """Snapshot of tensors and their gradients, taken when the dry run first sees them.

    Attributes:
        plain: Ids of strided tensors with a class of PyTorch, and their shape, stride, dtype and device; None: they
            are to be asked for.
    """

    def __init__(self) -> None:
        self.plain: dict[int, tuple[Any, ...] | None] = {}
        self._leaves: dict[int, Leaf] = {}
        self._data: dict[int, Tensor] = {}
        self._lazy: dict[int, tuple[Tensor, type, Tensor]] = {}

    def note(self, tensor: Tensor) -> None:
        """Remember an operator's argument if it is a leaf."""
        if identity(tensor) not in self._leaves and tensor.is_leaf and not is_wrapped(tensor):
            with dispatch_disabled():
                self.add(tensor)

    def keep(self, tensor: Tensor) -> None:
        """Remember any tensor before it is changed."""
        with dispatch_disabled():
            self.add(tensor)

    def keep_data(self, tensor: Tensor) -> bool:
        """Remember a tensor's data before it is replaced; return whether it can be restored."""
        if is_wrapped(tensor):
            return True
        if is_lazy(tensor):
            with dispatch_disabled():
                self._lazy.setdefault(identity(tensor), (tensor, type(tensor), tensor.data))
            return True
        self.forget_shapes((tensor,))
        if type(tensor) not in PLAIN or not is_plain(tensor) or tensor.is_meta:
            return identity(tensor) in self._data
        with dispatch_disabled():
            self._data.setdefault(identity(tensor), tensor.data)
        return True

    def note_plain(self, tensor: Tensor) -> None:
        """Note that a remembered tensor has become strided, with a class of PyTorch."""
        if is_plain(tensor):
            self.plain[identity(tensor)] = None

    def forget_shapes(self, values: Iterable[Any]) -> None:
        """Have the shapes of tensors be asked for from now on, real or fake, since they may change."""
        for tensor in tensors(values):
            if isinstance(tensor, DryTensor):
                tensor.made_as = None
            elif identity(tensor) in self.plain:
                self.plain[identity(tensor)] = None

    def note_written(self, tensor: Tensor) -> None:
        """Remember a tensor, or its base, before a write: autograd then gives it a ``grad_fn``."""
        original = base_of(tensor) if is_view(tensor) else None
        base = tensor if original is None else original
        if type(base) in PLAIN and not is_wrapped(base):
            self.note(base)

    def add(self, tensor: Tensor) -> None:
        """Remember a tensor once; call it with dispatch modes off."""
        name = identity(tensor)
        if name in self._leaves or wraps_fakes(tensor):
            return
        if type(tensor) in PLAIN and is_plain(tensor):
            dtype = tensor.dtype
            self.plain[name] = None if dtype.is_complex else (tensor.shape, tensor.stride(), dtype, tensor.device)
        is_leaf = tensor.is_leaf
        grad = tensor.grad if is_leaf else None
        hooks = _hooks_of(tensor) if _is_hooked(tensor) else _NO_HOOKS
        self._leaves[name] = (tensor, is_leaf, grad, tensor.requires_grad, vars(tensor).copy(), hooks)

    def restoring(self) -> list[Undo]:
        """Return the steps that restore the tensors."""
        of_data = [(_restore_data, self._leaves[name][0], data) for name, data in self._data.items()]
        shapeless = [(_restore_shapeless, tensor, data) for tensor, _, data in self._lazy.values()]
        leaves = [(_restore, leaf[0], leaf) for leaf in self._leaves.values()]
        classes = [(_restore_class, tensor, kind) for tensor, kind, _ in self._lazy.values()]
        return [*of_data, *shapeless, *leaves, *classes]


def _restore_shapeless(tensor: Tensor, data: Tensor) -> None:
    """Make a tensor uninitialized again; another dtype in between resets the shape that autograd expects."""
    other = torch.float32 if data.dtype is torch.float64 else torch.float64
    tensor.data = torch.empty(0, dtype=other, device=data.device)
    tensor.data = data


def _restore_class(tensor: Tensor, kind: type) -> None:
    tensor.__class__ = kind


def _restore_data(tensor: Tensor, data: Tensor) -> None:
    if tensor.is_meta or tensor.dtype != data.dtype or tensor.data_ptr() != data.data_ptr():
        tensor.data = data


def _restore(tensor: Tensor, before: Leaf) -> None:
    _, is_leaf, grad, requires_grad, attributes, hooks = before
    if not (requires_grad or tensor.is_leaf):  # what requires gradients was written to it
        tensor.detach_()
    if is_leaf and tensor.grad is not grad:
        tensor.grad = grad
    if tensor.requires_grad != requires_grad:
        tensor.requires_grad = requires_grad  # the method is not for what has no shape
    if attributes or vars(tensor):
        put_back_dict(vars(tensor), attributes)
    if hooks or _is_hooked(tensor):
        _restore_hooks(tensor, hooks)


def _is_hooked(tensor: Any) -> bool:
    return hooks_of_tensor(tensor) is not None or accumulation_hooks_of(tensor) is not None


def _hooks_of(tensor: Tensor) -> Hooks:
    found = {name: getattr(tensor, name) for name in _HOOKS}
    return {name: (hooks, dict(hooks)) for name, hooks in found.items() if hooks is not None}


def _restore_hooks(tensor: Tensor, before: Hooks) -> None:
    for name in _HOOKS:
        now, (hooks, held) = getattr(tensor, name), before.get(name, (None, {}))
        if now is not hooks:
            put_back_dict(now or {}, {})  # a graph may hold it
            setattr(tensor, name, hooks)
        if hooks is not None:
            put_back_dict(hooks, held)
