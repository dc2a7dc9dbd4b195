"""Choice of implementations by optimizers."""

from __future__ import annotations

from typing import Any

from opcount._torch.lookup import find

_NAME = "_get_foreach_kernels_supported_devices"

FOREACH_DEVICES: list[tuple[Any, str]] = [
    (module, _NAME) for of in ("utils._foreach_utils", "optim.optimizer") if hasattr(module := find(of), _NAME)
]
"""Modules that ask, by a function of this name, on which devices optimizers handle many tensors at a time."""
