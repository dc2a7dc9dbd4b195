"""Transforms of ``torch.func``, and the tensors that they wrap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import need

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

in_transform: Callable[[], bool] = need("_C._are_functorch_transforms_active")
transforms_disabled: Callable[[], AbstractContextManager[object]] = need("_C._DisableFuncTorch")
"""Keeps transforms from wrapping what is made; entered and left in C++."""
is_wrapped: Callable[[Tensor], bool] = need("_C._functorch.is_functorch_wrapped_tensor")
is_batched: Callable[[Tensor], bool] = need("_C._functorch.is_batchedtensor")
unwrapped: Callable[[Tensor], Tensor] = need("_C._functorch.get_unwrapped")
TransformType: Any = need("_C._functorch.TransformType")
"""The kinds of transforms: ``Vmap``, ``Grad``, ``Jvp``, ..."""
