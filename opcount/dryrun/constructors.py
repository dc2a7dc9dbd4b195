"""Make instances of tensor subclasses from fake tensors, without a second Python object for one tensor."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.dispatch import disabled_modes
from opcount._torch.functorch import is_wrapped
from opcount._torch.tensors import GIVES_CLASSES_UNDER_MODES, make_subclass
from opcount.dryrun.tensors import DryTensor, plain_class
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator

_make, _view_as = make_subclass, Tensor.as_subclass


def _make_subclass(cls: Any, data: Tensor, require_grad: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
    if not isinstance(data, DryTensor) or kwargs:
        return _make(cls, data, require_grad, **kwargs)
    with torch.no_grad():
        made = data.as_subclass(cls)
        made.requires_grad = require_grad
        return made


def _as_subclass(tensor: Tensor, cls: Any) -> Any:
    if isinstance(tensor, DryTensor):
        return DryTensor.as_subclass(tensor, cls)
    with nullcontext() if GIVES_CLASSES_UNDER_MODES else disabled_modes():
        return _view_as(tensor, plain_class(cls) if is_wrapped(tensor) else cls)


class _MakeSubclass:
    """Replacement for ``torch.Tensor._make_subclass``; PyTorch's own code gets the original."""

    def __get__(self, _instance: object, _owner: type) -> Any:
        of_torch = sys._getframe(1).f_globals.get("__name__", "").startswith("torch.")
        return _make if of_torch else _make_subclass


_PATCHES = Patches({(Tensor, "_make_subclass"): _MakeSubclass(), (Tensor, "as_subclass"): _as_subclass})


@contextmanager
def subclasses_of_fakes() -> Iterator[None]:
    """Monkeypatch the constructors of tensor subclasses."""
    with Undo() as undo:
        _PATCHES.use(undo)
        yield
