"""Calls of tensor subclasses, ``class T(torch.Tensor)``: under any dispatch mode PyTorch fails at ``T(x)``.

Its constructor runs ``aten.alias``, ``aten.empty`` or ``aten.lift_fresh`` and gives the result the class that was asked
for. A result that has passed through a mode is a Python object already, of class ``torch.Tensor``. So the constructor
runs without our modes, which would have found nothing to count in it.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from opcount.interceptor.stack import interceptors, without

if TYPE_CHECKING:
    from collections.abc import Iterator

_construct = torch.Tensor.__new__
_height = torch._C._len_torch_dispatch_stack

_USERS: list[object] = []
_LOCK = Lock()


def _new(cls: type, /, *args: Any, **kwargs: Any) -> Any:
    if cls is torch.Tensor or not _height():
        return _construct(cls, *args, **kwargs)
    with without(interceptors()):
        return _construct(cls, *args, **kwargs)


class _Constructor:
    """Stands as ``torch.Tensor.__new__``, but for PyTorch's own code: its compiler keeps a table of such functions."""

    def __get__(self, instance: object, owner: type) -> Any:
        if owner is torch.Tensor and sys._getframe(1).f_globals.get("__name__", "").startswith("torch."):
            return _construct
        return _new


_CONSTRUCTOR = _Constructor()


@contextmanager
def subclasses_callable() -> Iterator[None]:
    """Let programs call tensor subclasses while the block runs."""
    user = object()
    try:
        with _LOCK:
            _USERS.append(user)
            if "__new__" not in vars(torch.Tensor):
                torch.Tensor.__new__ = _CONSTRUCTOR  # type: ignore[method-assign, assignment]
        yield
    finally:
        with _LOCK:
            if user in _USERS:
                _USERS.remove(user)
            if not _USERS and vars(torch.Tensor).get("__new__") is _CONSTRUCTOR:
                del torch.Tensor.__new__
