"""The kernels of attention that PyTorch may choose on a CUDA device, and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount._torch.lookup import VERSION, find

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_ORDER = [1, 2, 0, 3]
"""Flash, efficient, math and cuDNN's, by their numbers in ``torch.nn.attention.SDPBackend``."""

CUDNN_FIRST: bool = VERSION >= (2, 10)
"""True if cuDNN's kernel comes first on Hopper and Blackwell."""

_order: Callable[[], list[int]] = find("_C._get_sdp_priority_order", lambda: DEFAULT_ORDER)  # since 2.5

cudnn_enabled: Callable[[], bool] = find("backends.cuda.cudnn_sdp_enabled", lambda: False)  # since 2.4


def order_of_kernels() -> list[int]:
    """Return the kernels in the order in which they are tried, as the program has set it."""
    return [kernel for kernel in _order() if kernel in DEFAULT_ORDER]
