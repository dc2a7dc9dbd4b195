"""Recordings of what a computation on meta tensors would be charged, without charging it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.autograd import saved_tensor_hooks_disabled
from opcount._torch.dispatch import CPU_ATTENTION, FLASH_ATTENTION, aten, below_autograd, functions_disabled, schema_of
from opcount.identity import identity
from opcount.interceptor.calls import tensors
from opcount.interceptor.composites import composites_asked
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.planner import Planner
from opcount.interceptor.stack import modes_below, without
from opcount.interceptor.till import Till
from opcount.scope import Frame
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from opcount.interceptor.operator_steps import Autocast, OperatorSteps, Recorded
    from opcount.interceptor.plan import Plan

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default

_LAYER_NORM = torch.ops.aten.native_layer_norm.default

_TO_COPY = aten("_to_copy.default")

_MADE = {torch.ops.aten.empty.memory_format, torch.ops.aten.empty_strided.default}
"""Operators that make the meta tensors: no step runs them."""

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
"""Shapes of results, for operators whose meta kernels are Python, like those of elementwise ones, and import dynamo."""

_CAPACITY = 256
"""Computations that are remembered: one for each kind of layer and length of a sequence."""


class Recorder(Interceptor):
    """Sums up operators by the submodule that is said to run them.

    Args:
        planner: Decides how they are priced.
        plans: What it has decided.
        device: Of the tensors that the meta tensors stand for.
        called: Classes of the submodules that run.
        autocast: What autocast makes of the operands of products; it does not apply to meta tensors.
    """

    def __init__(
        self,
        planner: Planner,
        plans: dict[Any, Plan],
        device: str,
        called: Mapping[str, type],
        autocast: Autocast | None = None,
    ) -> None:
        self.submodules = _Submodules()
        super().__init__(planner, self.submodules, plans, Till())
        self._on_cpu = device == "cpu"
        priced = planner.priced_modules()
        self._priced = {name: planner.module_plan(kind) for name, kind in called.items() if kind in priced}
        self._autocast = autocast

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _MADE:
            return func(*args, **kwargs or {})
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
        out = torch.empty_strided(value.shape, value.stride(), dtype=dtype, device="meta")  # expanded as it was
        return self._answer(_TO_COPY, out, (value,), {"dtype": dtype})

    def _map(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Run an elementwise operator."""
        out = args[0]
        if schema_of(func).returns[0].alias_info is None:
            out = self.empty(torch.broadcast_shapes(*(tensor.shape for tensor in tensors(args))), out.dtype)
        return self._answer(func, out, args, kwargs)

    def _answer(self, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        if not self.is_paused:
            self.charge(self.plans.get(identity(func)) or self._decide(func), out, args, kwargs)
        return out

    def _attend(
        self, types: Any, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, **options: Any,  # noqa: FBT001, FBT002  (PyTorch's own)
    ) -> Any:  # fmt: skip
        args, named = (q, k, v, dropout_p, is_causal), {"attn_mask": attn_mask, "scale": options.get("scale")}
        if CPU_ATTENTION is not None:
            return super().__torch_dispatch__(CPU_ATTENTION, types, args, named)[0]
        if attn_mask is None:
            return super().__torch_dispatch__(FLASH_ATTENTION, types, args, {"scale": named["scale"]})[0]
        return super().__torch_dispatch__(_ATTENTION, types, (q, k, v, attn_mask, *args[3:]), options)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run what a submodule computes, and charge the submodule, by its class's formula if there is one."""
        plan = self._priced.get(name)
        with self.submodules.inside(name):
            if plan is None:
                return function(*args, **kwargs)
            with Undo() as undo:
                undo.add(self.look_away())
                out = function(*args, **kwargs)
            self.charge(plan, out, args, kwargs)
            return out

    def like(self, tensor: Tensor | None) -> Any:
        """Return a meta tensor like another: strides and the need of a gradient decide how products are computed."""
        if tensor is None:
            return None
        needs_gradient = tensor.requires_grad and (self._autocast is None or self._autocast.gradients)
        meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        meta.requires_grad = needs_gradient  # a transform of torch.func refuses requires_grad_()
        return meta

    def empty(self, shape: Sequence[int] | None, dtype: torch.dtype) -> Any:
        """Return a meta tensor; None for no shape."""
        return None if shape is None else torch.empty(tuple(shape), dtype=dtype, device="meta")


class _Submodules:
    """Stands for a thread's scope: an operator runs in the submodule that is said to run.

    Attributes:
        frames: By the submodule's name; ``""`` for the module itself.
    """

    settled = True
    muted = False
    phase = ""
    returned: Callable[[Any], None] | None = None

    def __init__(self) -> None:
        self.frames = {"": Frame("")}
        self.frame = self.top = self.frames[""]

    def locate(self) -> tuple[Frame, str]:
        return self.top, self.phase

    def frame_of_owner(self, *_: object) -> None:
        return None

    def frame_of_reducer(self, *_: object) -> None:
        return None

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        before, self.top = self.top, self.frames.setdefault(name, Frame(name))
        try:
            yield
        finally:
            self.top = before


class Recordings:
    """Charges of the steps of operators in one count, found out once for each combination of shapes.

    Args:
        planner: Has the count's formulas. Another one with the same formulas asks nobody for results.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = Planner(planner.registry)
        self._plans: dict[Any, Plan] = {}
        self._known: dict[object, Recorded] = {}

    def __call__(self, steps: OperatorSteps) -> Recorded:
        """Return what steps would be charged by a counter."""
        key = steps.signature, steps.autocast
        recorded = self._known.get(key)
        if recorded is None:
            if len(self._known) >= _CAPACITY:
                self._known.clear()
            recorded = self._known[key] = self._record(steps)
        return recorded

    def _record(self, steps: OperatorSteps) -> Recorded:
        """Compute steps, unseen by all modes."""
        recorder = Recorder(self._planner, self._plans, steps.device, steps.called, steps.autocast)
        with ExitStack() as stack:
            stack.enter_context(without(modes_below()))
            stack.enter_context(functions_disabled())
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(saved_tensor_hooks_disabled("no hooks while a fast path is recorded"))
            stack.enter_context(below_autograd())
            stack.enter_context(recorder.reentered())
            stack.enter_context(composites_asked())
            steps.run(recorder)
        return [(name, frame.rows) for name, frame in recorder.submodules.frames.items()]
