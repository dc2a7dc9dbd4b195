"""Modules of PyTorch that take a second to import, imported when they are first asked for."""

from __future__ import annotations

import sys
from typing import Any

DYNAMO = "torch._dynamo.eval_frame"


def dynamo() -> Any:
    """Return the part of dynamo that holds its stance, if dynamo is loaded and has one (since 2.6), else None."""
    module = sys.modules.get(DYNAMO)
    return module if hasattr(module, "DynamoStance") else None


def stance_of(eval_frame: Any) -> Any:
    """Return dynamo's stance, which decides whether compiled functions are compiled."""
    return eval_frame._stance


def set_stance(eval_frame: Any, stance: Any) -> None:
    """Set dynamo's stance."""
    eval_frame._set_stance(stance)


def decompositions() -> Any:
    """Return PyTorch's table of decompositions by overload."""
    from torch._decomp import decomposition_table  # noqa: PLC0415

    return decomposition_table


def triton_kernels() -> Any:
    """Return the table in which the higher-order operator for Triton finds kernels by number."""
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table  # noqa: PLC0415

    return kernel_side_table
