"""Functions of PyTorch's that make a tensor of memory that others have allocated, and pass no dispatcher."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.stand_ins import is_own_memory
from opcount.interceptor.stack import interceptors
from opcount.interceptor.storages import storage_of

if TYPE_CHECKING:
    from collections.abc import Callable


def _imported(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that lets the interceptors of this thread take note of its result."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        storage = storage_of(out)
        if storage is not None and not is_own_memory(storage):
            for mode in interceptors():
                if mode.origins is not None and not mode.is_paused:
                    mode.origins.lifted(out)
        return out

    return run


PATCHED_AROUND: dict[tuple[Any, str], Callable[[Any], Any]] = {
    (torch, "frombuffer"): _imported,
    (torch.utils.dlpack, "from_dlpack"): _imported,
}
"""Wrappers by module and function."""
