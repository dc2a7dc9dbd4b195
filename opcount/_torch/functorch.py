"""Transforms of ``torch.func``, and the tensors that they wrap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

in_transform: Callable[[], bool] = need("_C._are_functorch_transforms_active")
is_wrapped: Callable[[Tensor], bool] = need("_C._functorch.is_functorch_wrapped_tensor")
is_batched: Callable[[Tensor], bool] = need("_C._functorch.is_batchedtensor")
unwrapped: Callable[[Tensor], Tensor] = need("_C._functorch.get_unwrapped")
TransformType: Any = need("_C._functorch.TransformType")
"""The kinds of transforms: ``Vmap``, ``Grad``, ``Jvp``, ..."""
