"""What a computation on meta tensors would be charged, without charging it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from opcount.interceptor.mode import Interceptor
from opcount.interceptor.plan import Planner
from opcount.interceptor.stack import modes_below, without
from opcount.scope import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from opcount.interceptor.mode import Place
    from opcount.interceptor.plan import Plan
    from opcount.scope import Row

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

Recorded = list[tuple[str, dict[Any, "Row"]]]
"""Rows by ``(plan, phase, dtype)``, for each submodule by its name; ``""`` for the module itself."""


class Recorder(Interceptor):
    """Sums up operators by the submodule that is said to run them.

    Args:
        outer: Whose formulas price them.
        device: Of the tensors that the meta tensors stand for.
    """

    def __init__(self, outer: Interceptor, device: str) -> None:
        super().__init__(Planner(outer.planner.registry), outer.scope, {})
        self._on_cpu = device == "cpu"
        self.frames = {"": Frame("")}
        self._frame = self.frames[""]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _ATTENTION and self._on_cpu:  # a meta tensor would take the kernel that no device has
            return self._attend(types, *args, **kwargs or {})
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _attend(
        self, types: Any, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, **options: Any,  # noqa: FBT001, FBT002  (PyTorch's own)
    ) -> Any:  # fmt: skip
        named = {"attn_mask": attn_mask, "scale": options.get("scale")}
        return super().__torch_dispatch__(_CPU_ATTENTION, types, (q, k, v, dropout_p, is_causal), named)[0]

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place | None = None
    ) -> None:
        """Charge the submodule that runs."""
        del at
        super().charge(plan, out, args, kwargs, (self._frame, ""))

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Charge a submodule while the block runs."""
        before, self._frame = self._frame, self.frames.setdefault(name, Frame(name))
        try:
            yield
        finally:
            self._frame = before

    def like(self, tensor: Tensor | None) -> Any:
        """Return a meta tensor of a tensor's shape; whether it needs a gradient decides how products are computed."""
        if tensor is None:
            return None
        return self.empty(tensor.shape, tensor.dtype).requires_grad_(tensor.requires_grad)

    def empty(self, shape: Sequence[int] | None, dtype: torch.dtype) -> Any:
        """Return a meta tensor; None for no shape."""
        return None if shape is None else torch.empty(tuple(shape), dtype=dtype, device="meta")


def record(outer: Interceptor, device: str, compute: Callable[[Recorder], object]) -> Recorded:
    """Return what a computation would be charged by a counter, unseen by all modes."""
    recorder = Recorder(outer, device)
    with ExitStack() as stack:
        stack.enter_context(without(modes_below()))
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch._C._AutoDispatchBelowAutograd())
        stack.enter_context(recorder.reentered())
        compute(recorder)
    return [(name, frame.rows) for name, frame in recorder.frames.items()]
