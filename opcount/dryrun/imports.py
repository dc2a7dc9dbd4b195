"""Import modules outside of a dry run: tensors that they make at import time have to be real."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from opcount._torch.dispatch import disabled_modes
from opcount._torch.stand_ins import default_device
from opcount.interceptor.imports import import_within
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@contextmanager
def imports_undisturbed() -> Iterator[None]:
    """Run the code of imported modules without the block's device and modes.

    A module outlives the block, and so would a fake constant, or one on the meta device.
    """
    device = default_device()
    _import_what_disables_modes()
    with Undo() as undo:
        import_within(partial(_outside, device), undo)
        yield


@cache
def _import_what_disables_modes() -> None:
    """Have PyTorch import what it needs to disable modes, before that is called for an import."""
    with disabled_modes():
        pass


@contextmanager
def _outside(device: torch.device) -> Iterator[None]:
    with disabled_modes(), device:
        yield
