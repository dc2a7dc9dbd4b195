"""What a computation on meta tensors would be charged, without charging it."""

from __future__ import annotations

import weakref
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.autograd import saved_tensor_hooks_disabled
from opcount._torch.dispatch import aten, below_autograd, functions_disabled, schema_of
from opcount.interceptor.calls import tensors
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.planner import Planner
from opcount.interceptor.stack import modes_below, without
from opcount.scope import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from opcount.interceptor.mode import Place
    from opcount.interceptor.plan import Plan
    from opcount.interceptor.steps import Autocast, Recorded

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_CPU_ATTENTION = aten("_scaled_dot_product_flash_attention_for_cpu.default")

_LAYER_NORM = torch.ops.aten.native_layer_norm.default

_TO_COPY = aten("_to_copy.default")

_AUTOCAST = {
    _ATTENTION,
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
}
"""Operators to whose operands autocast gives its dtype."""

_SHAPES: dict[Any, Callable[..., Sequence[int]]] = {
    torch.ops.aten.addmm.default: lambda _bias, a, b, *_: (a.shape[0], b.shape[1]),
    torch.ops.aten.baddbmm.default: lambda _bias, a, b, *_: (*a.shape[:2], b.shape[2]),
    aten("_softmax.default"): lambda x, *_: x.shape,
    torch.ops.aten.mean.dim: lambda x, dims, *_: [n for i, n in enumerate(x.shape) if i not in dims],
}
"""What operators return whose meta kernels are Python, as those of elementwise ones are: they import dynamo."""

_PLANS: weakref.WeakKeyDictionary[Planner, tuple[Planner, dict[Any, Plan]]] = weakref.WeakKeyDictionary()


class Recorder(Interceptor):
    """Sums up operators by the submodule that is said to run them.

    Args:
        outer: Whose formulas price them.
        device: Of the tensors that the meta tensors stand for.
        autocast: What autocast makes of the operands of products; it does not apply to meta tensors.
    """

    def __init__(self, outer: Interceptor, device: str, autocast: Autocast | None = None) -> None:
        planner, plans = _plans_of(outer.planner)
        super().__init__(planner, outer.scope, plans)
        self._on_cpu = device == "cpu"
        self._autocast = autocast
        self.frames = {"": Frame("")}
        self._frame = self.frames[""]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._autocast is not None and func in _AUTOCAST:
            args = tuple(map(self._cast, args))
        if func is _ATTENTION and self._on_cpu:  # a meta tensor would take the kernel that no device has
            return self._attend(types, *args, **kwargs or {})
        shape = _SHAPES.get(func)
        if shape is not None:
            return self._answer(func, self.empty(shape(*args), args[0].dtype), args, kwargs)
        if func is _LAYER_NORM:
            x, mean = args[0], (*args[0].shape[: -len(args[1])], *[1] * len(args[1]))
            out = tuple(self.empty(shape, x.dtype) for shape in (x.shape, mean, mean))
            return self._answer(func, out, args, kwargs)
        if torch.Tag.pointwise in func.tags and type(args[0]) is torch.Tensor and args[0].is_floating_point():
            return self._map(func, args, kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _cast(self, value: Any) -> Any:
        """Return an operand in the dtype of autocast."""
        dtype = None if self._autocast is None else self._autocast.dtype
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        return self._answer(_TO_COPY, torch.empty_like(value, dtype=dtype), (value,), {"dtype": dtype})

    def _map(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Run an elementwise operator."""
        out = args[0]
        if schema_of(func).returns[0].alias_info is None:
            out = self.empty(torch.broadcast_shapes(*(tensor.shape for tensor in tensors(args))), out.dtype)
        return self._answer(func, out, args, kwargs)

    def _answer(self, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        self.charge(self.plans.get(id(func)) or self._decide(func), out, args, kwargs)
        return out

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
        needs_gradient = tensor.requires_grad and (self._autocast is None or self._autocast.gradients)
        return self.empty(tensor.shape, tensor.dtype).requires_grad_(needs_gradient)

    def empty(self, shape: Sequence[int] | None, dtype: torch.dtype) -> Any:
        """Return a meta tensor; None for no shape."""
        return None if shape is None else torch.empty(tuple(shape), dtype=dtype, device="meta")


def _plans_of(planner: Planner) -> tuple[Planner, dict[Any, Plan]]:
    """Return a planner with the same formulas that asks nobody for results, and what it has decided."""
    known = _PLANS.get(planner)
    if known is None:
        known = _PLANS[planner] = Planner(planner.registry), {}
    return known


def record(
    outer: Interceptor, device: str, compute: Callable[[Recorder], object], autocast: Autocast | None = None
) -> Recorded:
    """Return what a computation would be charged by a counter, unseen by all modes."""
    recorder = Recorder(outer, device, autocast)
    with ExitStack() as stack:
        stack.enter_context(without(modes_below()))
        stack.enter_context(functions_disabled())
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(saved_tensor_hooks_disabled("no hooks while a fast path is recorded"))
        stack.enter_context(below_autograd())
        stack.enter_context(recorder.reentered())
        compute(recorder)
    return [(name, frame.rows) for name, frame in recorder.frames.items()]
