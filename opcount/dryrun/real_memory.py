"""Functions of PyTorch that write to memory in C++, where no dispatch mode sees it: they need real memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.utils.data

from opcount._torch.fake import FakeTensor
from opcount._torch.names import RECURRENT_FILE, STORAGE_FILE, TENSOR_FILE
from opcount.dryrun.checks import asking

_WRITTEN_IN_C = {"ctc_loss", "pad_packed_sequence", "pack_padded_sequence"}
"""Functions of PyTorch in Python whose numbers are written in C++."""

_EMPTY = torch.ops.aten.empty.memory_format
_RANDOM = torch.ops.aten.random_.default

_OURS = 3
"""Frames of opcount from `needs_real_memory` up to the one that called an operator, at least: each costs time."""

_DATA = str(Path(torch.utils.data.__file__).parent)
"""Data loaders read random numbers to shuffle and to seed; no size depends on them."""


def needs_real_memory(func: Any, args: tuple[Any, ...]) -> bool:
    """Return whether an operator is called by a function that writes to its result in C++."""
    if any(isinstance(value, FakeTensor) for value in args):
        return False
    frame = asking(sys._getframe(_OURS))
    if frame is None:
        return False
    code = frame.f_code
    if code.co_filename == STORAGE_FILE or code.co_filename.startswith(_DATA):
        return True
    if code.co_name == "__deepcopy__" and code.co_filename == TENSOR_FILE:
        return True
    return code.co_name in _WRITTEN_IN_C and func is _EMPTY


def draws_seed(func: Any) -> bool:
    """Return whether an operator draws the seed of a dropout inside of a recurrent layer."""
    frame = asking(sys._getframe(1)) if func is _RANDOM else None
    return frame is not None and frame.f_code.co_filename == RECURRENT_FILE
