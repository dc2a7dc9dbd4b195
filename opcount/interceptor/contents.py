"""Comparisons of a tensor's numbers with those that are known to have been put there."""

from __future__ import annotations

import sys
from cmath import isnan
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.cuda import is_captured
from opcount._torch.dispatch import dispatch_disabled, subclass_functions_disabled
from opcount.interceptor.storages import has_values

if TYPE_CHECKING:
    from types import FrameType

    from torch import Tensor

_LENGTHS = "ctc_loss"


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


def is_of_lengths(tensor: Tensor) -> bool:
    """Return whether ``ctc_loss`` has made a tensor of lengths that are numbers, which it does by no operator.

    It is in C++: the innermost code of a program or of PyTorch that runs has called it, and so knows its name.
    """
    if tensor.dim() != 1 or not tensor.is_floating_point():
        return False
    frame: Any = sys._getframe(1)
    while frame is not None and _LENGTHS not in frame.f_code.co_names and _is_of_a_package(frame):
        frame = frame.f_back
    return frame is not None and _LENGTHS in frame.f_code.co_names


def _is_of_a_package(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(("opcount.", "torch."))
