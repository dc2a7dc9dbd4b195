"""The dispatch mode. This is the hot path: no pytree, no allocation that is not needed."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from opcount.coverage import FREE, UNCOUNTED
from opcount.errors import CounterStateError, FormulaError
from opcount.interceptor.opening import tensors
from opcount.interceptor.plan import Plan, Planner, price_nothing
from opcount.scope import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.scope import Frame, Scope
    from opcount.scope.frame import Shapes

_graph_task: Callable[[], int] = torch._C._current_graph_task_id
_NO_TASK = -1
_COMPUTING = {t for t in vars(torch).values() if isinstance(t, torch.dtype) and (t.is_floating_point or t.is_complex)}
_PLAIN = {"FakeTensor", "FunctionalTensor", "Parameter", "Tensor"}
"""Subclasses that stand for one tensor; all others are opened by their own handler, which we see."""


class Interceptor(TorchDispatchMode):
    """Prices every operator of one thread.

    Args:
        planner: Decides how.
        scope: Where operators are charged.
        plans: What was decided, shared by the threads of a count.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Tell dynamo that this mode changes nothing that it compiles."""
        return True

    def __init__(self, planner: Planner, scope: Scope, plans: dict[Any, Plan]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.planner = planner
        self.scope = scope
        self.plans = plans
        self._opaque: dict[Any, bool] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if types and self._is_opened_by_its_subclass(types):
            return NotImplemented
        plan = self.plans.get(func)
        if plan is None:
            plan = self.plans[func] = self.planner.plan(func)
        price = plan.price
        if price is None:
            return plan.handle(self, plan, func, args, kwargs or {})  # type: ignore[misc]
        out = func(*args, **kwargs) if kwargs else func(*args)
        self.charge(plan, out, args, kwargs or {})
        return out

    def run(self, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator by a plan that is not the one remembered for it."""
        if plan.price is None:
            return plan.handle(self, plan, func, args, kwargs)  # type: ignore[misc]
        out = func(*args, **kwargs)
        self.charge(plan, out, args, kwargs)
        return out

    def charge(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Price a call that has run, and add it to the tally of the frame that it belongs to."""
        scope = self.scope
        if scope.settled and _graph_task() == _NO_TASK:
            self.charge_frame(scope.top, scope.phase, plan, out, args, kwargs)
        else:
            self.charge_frame(*scope.locate(), plan, out, args, kwargs)

    def charge_frame(
        self, frame: Frame, phase: str, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Price a call that has run, and add it to the tally of a frame."""
        try:
            macs, arith, activations = plan.price(out, *args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            # The user's program must not fail for a formula of ours.
            if plan.from_user:
                raise _formula_failed(plan, error) from error
            plan = self._unpriced(plan)
            macs = arith = activations = 0
        try:
            dtype = args[0].dtype
        except (AttributeError, IndexError):
            dtype = None
        if dtype not in _COMPUTING:
            dtype = _computing_dtype(dtype, out, args, kwargs)
        key = (plan, phase, dtype)
        row = frame.rows.get(key)
        if row is None:
            row = frame.rows[key] = Row(_shapes(out, args, kwargs))
        row.calls += 1
        row.macs += macs
        row.arith += arith
        row.activations += activations
        if plan.writes:
            try:
                row.bytes += out.nbytes
            except (AttributeError, RuntimeError):
                row.bytes += _written(out)

    def _unpriced(self, plan: Plan) -> Plan:
        """Return the plan that names an operator as uncounted, because its formula failed on a call."""
        name = (plan, "unpriced")
        if name not in self.plans:
            self.plans[name] = Plan(plan.operator, UNCOUNTED, price_nothing)
        return self.plans[name]

    def _is_opened_by_its_subclass(self, types: tuple[type, ...]) -> bool:
        opaque = self._opaque.get(types)
        if opaque is None:
            opaque = self._opaque[types] = any(t.__name__ not in _PLAIN and _has_handler(t) for t in types)
        return opaque

    @contextmanager
    def pushed(self) -> Iterator[None]:
        """Put the mode on this thread's stack; modes that were pushed later and never popped stay there."""
        self.__enter__()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            height = torch._C._len_torch_dispatch_stack()
            stack = [torch._C._get_dispatch_stack_at(i) for i in range(height)]
            if self not in stack:
                raise CounterStateError(
                    "OpCounter: the block was left on another thread, or in another context, than it was entered. "
                    "Enter and leave a counter on one thread."
                )
            above = stack[stack.index(self) + 1 :]
            for _ in above:
                torch._C._pop_torch_dispatch_stack(None)
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            for mode in above:
                torch._C._push_on_torch_dispatch_stack(mode)

    def push_here(self) -> Callable[[], object]:
        """Put the mode on this thread's stack; return what takes it off."""
        manager = self.pushed()
        manager.__enter__()
        return partial(manager.__exit__, None, None, None)

    @contextmanager
    def reentered(self) -> Iterator[Watch]:
        """See what a kernel calls inside; tells whether anything of it was priced."""
        with Watch(self) as watch:
            yield watch


class Watch(Interceptor):
    """The same interceptor once more, noting whether an operator was counted."""

    def __init__(self, outer: Interceptor) -> None:
        super().__init__(outer.planner, outer.scope, outer.plans)
        self.priced = False
        self._outer = outer

    def charge_frame(
        self, frame: Frame, phase: str, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Charge, and note it."""
        if plan.family != FREE:
            self.priced = True
            if isinstance(self._outer, Watch):
                self._outer.priced = True
        super().charge_frame(frame, phase, plan, out, args, kwargs)


def _has_handler(kind: type) -> bool:
    """Tell whether a subclass handles dispatch itself: a parameter that a lazy module has not made yet does not."""
    return getattr(kind, "__torch_dispatch__", None) is not torch.Tensor.__torch_dispatch__


def _formula_failed(plan: Plan, error: Exception) -> FormulaError:
    return FormulaError(
        f"formula: {plan.operator}: its formula failed with {type(error).__name__}: {error}. "
        f"A formula takes (out, *args, **kwargs) of the operator and returns an opcount.Cost."
    )


def _computing_dtype(dtype: torch.dtype | None, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the dtype of the first floating-point tensor, else of the first tensor, of arguments then results."""
    found = [t.dtype for t in tensors((*args, *kwargs.values(), out))]
    return next((d for d in found if d in _COMPUTING), dtype or (found[0] if found else None))


def _written(out: Any) -> int:
    """Count the bytes of several outputs; sparse and nested ones that cannot say have none."""
    total = 0
    for tensor in tensors((out,)):
        try:
            total += tensor.nbytes
        except RuntimeError:
            continue
    return total


def _shapes(out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes:
    """Return the shapes of a call's arguments and results."""
    inputs = tuple(map(_shape, tensors((*args, *kwargs.values()))))
    return inputs, tuple(map(_shape, tensors((out,))))


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    """Return a tensor's shape; a nested one has none."""
    try:
        return tensor.shape
    except RuntimeError:
        return None
