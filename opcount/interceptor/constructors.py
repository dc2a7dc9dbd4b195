"""Constructors that cannot do their work under a dispatch mode.

Calls of tensor subclasses, ``class T(torch.Tensor)``: under any dispatch mode PyTorch fails at ``T(x)``. The
constructor runs ``aten.alias``, ``aten.empty`` or ``aten.lift_fresh`` and gives the result the class that was asked
for. A result that has passed through a mode is a Python object already, of class ``torch.Tensor``. So the constructor
runs without our modes, which would have found nothing to count in it.

The sizes of a tensor as a tensor: the kernel allocates memory by an operator and fills it by none.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from opcount._torch.dispatch import fake_mode, mode_count, register_script_builtin, script_builtin
from opcount._torch.tensors import GIVES_CLASSES_UNDER_MODES, shape_as_tensor
from opcount._torch.tracing import is_traced
from opcount.interceptor.stack import interceptors, without

_construct = torch.Tensor.__new__


def _new(cls: type, /, *args: Any, **kwargs: Any) -> Any:
    if cls is torch.Tensor or not mode_count():
        return _construct(cls, *args, **kwargs)
    with without(interceptors()):
        if fake_mode() is not None:
            return _construct(torch.Tensor, *args, **kwargs).as_subclass(cls)
        return _construct(cls, *args, **kwargs)


class _Constructor:
    """Stands as ``torch.Tensor.__new__``, but for PyTorch's own code: its compiler keeps a table of such functions."""

    def __get__(self, instance: object, owner: type) -> Any:
        if owner is torch.Tensor and sys._getframe(1).f_globals.get("__name__", "").startswith("torch."):
            return _construct
        return _new


_as_subclass = torch.Tensor.as_subclass


def _give_class(self: torch.Tensor, cls: type) -> Any:
    """Give a result of an operator the class of its operands."""
    with without(interceptors()):
        return _as_subclass(self, cls)


def _shape_as_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Make a tensor of sizes as ``torch.tensor`` does: a kernel that fills memory by no operator is native code."""
    if is_traced():
        return shape_as_tensor(tensor)
    return torch.tensor(tensor.shape, dtype=torch.int64, device="cpu")


if name := script_builtin(shape_as_tensor):
    register_script_builtin(_shape_as_tensor, name)

PATCHED: dict[tuple[Any, str], Any] = {
    (torch.Tensor, "__new__"): _Constructor(),
    (torch, "_shape_as_tensor"): _shape_as_tensor,
    **({} if GIVES_CLASSES_UNDER_MODES else {(torch.Tensor, "as_subclass"): _give_class}),
}
"""Replacements by class and attribute, in place while programs may call tensor subclasses."""
