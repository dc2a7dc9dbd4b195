"""Fake tensors: the only file that imports them, which takes a second."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opcount._torch.fake_slot import set_fake_mode, take_fake_mode
from opcount._torch.lookup import find, need, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

with needed():
    from torch import _subclasses as subclasses
    from torch._subclasses import fake_tensor
    from torch._subclasses.fake_tensor import (
        FakeTensor,
        FakeTensorConverter,
        FakeTensorMode,
    )


@contextmanager
def unset_fake_temporarily() -> Iterator[None]:
    """Deactivate this thread's fake tensor mode while the block runs."""
    mode = take_fake_mode()
    try:
        yield
    finally:
        if mode is not None:
            set_fake_mode(mode)


FOREACH_TYPES: list[list[Any]] = [
    types for of in ("utils._foreach_utils", "optim.optimizer") if (types := find(f"{of}._foreach_supported_types"))
]
"""Types of tensors that optimizers handle many at a time; 2.1 has one list of them."""
FOREACH_CHECKS: dict[tuple[Any, str], Callable[..., bool]] = {
    (of, "_has_foreach_support"): of._has_foreach_support
    for of in (need("nn.utils.clip_grad"),)
    if find("utils._foreach_utils._foreach_supported_types") is None
}
"""Functions by module and name that ask whether many gradients are clipped at a time, of plain tensors. Up to 2.1."""


def _leave(_tensor: Tensor) -> None:
    """Leave the data pointer as it is, where PyTorch does."""


refuse_data_pointer: Callable[[Tensor], object] = find("_C._set_throw_on_mutable_data_ptr", _leave)  # since 2.4
warn_of_data_pointer: Callable[[Tensor], object] = find(
    "_C._set_warn_deprecated_on_mutable_data_ptr", _leave
)  # since 2.4
