"""Launches of PyTorch's own that pass no dispatcher, and return memory that holds values: they are named as uncounted.

A CUDA graph is counted while it is captured, as if it ran; each replay is named.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from opcount._torch.cuda import CudaGraph, JiteratorFunction
from opcount.interceptor.plan import unpriced
from opcount.interceptor.stack import interceptors

if TYPE_CHECKING:
    from collections.abc import Callable


def _named(name_of: Callable[[Any], str], launch: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that names itself to the interceptors of this thread after it has run."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = launch(self, *args, **kwargs)
        for mode in interceptors():
            if not mode.is_paused:
                mode.charge(unpriced(name_of(self)), out, args, kwargs)
        return out

    return run


PATCHED_AROUND: dict[tuple[Any, str], Callable[[Any], Any]] = {
    (CudaGraph, "replay"): partial(_named, lambda _: "torch.cuda.CUDAGraph.replay"),
    (JiteratorFunction, "__call__"): partial(_named, lambda kernel: f"torch.cuda.jiterator.{kernel.kernel_name}"),
}
"""Wrappers by class and method."""
