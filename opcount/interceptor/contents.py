"""Comparisons of a tensor's numbers with those that operators are known to have put there."""

from __future__ import annotations

from cmath import isnan
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.cuda import is_captured
from opcount._torch.dispatch import dispatch_disabled, subclass_functions_disabled
from opcount.interceptor.storages import has_values

if TYPE_CHECKING:
    from torch import Tensor


def may_be_read(tensor: Tensor) -> bool:
    """Return whether the numbers of a tensor can be looked at."""
    if not has_values(tensor) or tensor.is_quantized:
        return False
    return not is_captured(tensor)


def is_filled_with(tensor: Tensor, value: Any) -> bool:
    """Return whether a tensor still holds the number that it was filled with, wherever that may be asked."""
    if not may_be_read(tensor):
        return True
    with dispatch_disabled(), subclass_functions_disabled(), torch.no_grad():
        return bool((tensor.isnan() if isnan(value) else tensor == tensor.new_full((), value)).all())


def is_copy_of(source: Tensor, tensor: Tensor) -> bool:
    """Return whether a tensor still holds the numbers of another one, wherever that may be asked."""
    if not may_be_read(tensor) or source.shape != tensor.shape:
        return True
    with dispatch_disabled(), subclass_functions_disabled(), torch.no_grad():
        source = source.to(tensor.dtype)
        return bool(((source == tensor) | (source.isnan() & tensor.isnan())).all())
