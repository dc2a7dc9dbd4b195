"""Calls of tensor subclasses, ``class T(torch.Tensor)``: under any dispatch mode PyTorch fails at ``T(x)``.

Its constructor runs ``aten.alias``, ``aten.empty`` or ``aten.lift_fresh`` and gives the result the class that was asked
for. A result that has passed through a mode is a Python object already, of class ``torch.Tensor``. So the constructor
runs without our modes, which would have found nothing to count in it.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from opcount._torch.dispatch import fake_mode, mode_count
from opcount._torch.tensors import GIVES_CLASSES_UNDER_MODES
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


PATCHED: dict[tuple[Any, str], Any] = {
    (torch.Tensor, "__new__"): _Constructor(),
    **({} if GIVES_CLASSES_UNDER_MODES else {(torch.Tensor, "as_subclass"): _give_class}),
}
"""Replacements by class and attribute, in place while programs may call tensor subclasses."""
