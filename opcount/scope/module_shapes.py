"""Shapes that a module itself tells: of its window, and of its own parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch.nn.parameter import is_lazy

from opcount._torch.modules import parameters_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

KERNEL = "kernel_size"
"""Attribute of modules that slide a window over their input."""

_DIMENSIONS = re.compile(r"([123])d")


def kernel_of(module: nn.Module) -> str:
    """Return the size of the window of a convolution or a pool; one number stands for all dimensions."""
    size = vars(module).get(KERNEL)
    if type(size) is int:
        dimensions = _DIMENSIONS.search(type(module).__name__)
        size = (size,) * (int(dimensions[1]) if dimensions else 1)
    is_known = isinstance(size, (tuple, list)) and all(type(each) is int for each in size)
    return _text(size or ()) if is_known else ""


def weights_of(module: nn.Module) -> str:
    """Return the shapes of a module's own parameters: ``"weight=64x3x7x7 bias=64"``."""
    own = parameters_of(module)
    return " ".join([f"{name}={_text(p.shape) or 'scalar'}" for name, p in own.items() if _has_shape(p)]) if own else ""


def _has_shape(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and not is_lazy(parameter)


def _text(shape: Sequence[object]) -> str:
    return "x".join(map(str, shape))
