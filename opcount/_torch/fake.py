"""Fake tensors: the only file that imports them, which takes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import _subclasses as subclasses
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    unset_fake_temporarily,
)

from opcount._torch.lookup import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = [
    "FOREACH_TYPES",
    "FakeTensor",
    "FakeTensorConverter",
    "FakeTensorMode",
    "fake_tensor",
    "refuse_data_pointer",
    "subclasses",
    "unset_fake_temporarily",
    "warn_of_data_pointer",
]

FOREACH_TYPES: tuple[list[Any], ...] = (
    need("utils._foreach_utils._foreach_supported_types"),
    need("optim.optimizer._foreach_supported_types"),
)
"""Types of tensors that optimizers handle many at a time."""

refuse_data_pointer: Callable[[Tensor], object] = need("_C._set_throw_on_mutable_data_ptr")  # since 2.4
warn_of_data_pointer: Callable[[Tensor], object] = need("_C._set_warn_deprecated_on_mutable_data_ptr")  # since 2.4
