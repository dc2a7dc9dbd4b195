"""The dispatch mode. This is the hot path: no pytree, no allocation that is not needed."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.autograd import graph_task
from opcount._torch.dispatch import FAKE_MODE, TorchDispatchMode, infra_mode, mode_at, mode_count, pop_mode, push_mode
from opcount.coverage import FREE, UNCOUNTED
from opcount.errors import CounterStateError
from opcount.interceptor.calls import is_fake, takes, tensors
from opcount.interceptor.composites import see_composites
from opcount.interceptor.fast_calls import BOUND
from opcount.interceptor.origins import Origins
from opcount.interceptor.plan import PassThrough, Plan
from opcount.interceptor.stack import dry_runs, modes_below, replace_modes, without
from opcount.interceptor.steps import take_back
from opcount.interceptor.symbolic import has_symbolic_sizes, unguarded
from opcount.interceptor.watching import Watching, looking_into
from opcount.scope import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.deferring import Deferring
    from opcount.interceptor.function_calls import FunctionCalls
    from opcount.interceptor.planner import Planner
    from opcount.interceptor.steps import Steps
    from opcount.scope import Frame, Scope
    from opcount.scope.frame import Shapes
    from opcount.undo import Undo

    Place = tuple[Frame, str]

_NO_TASK = -1
_COMPUTING = {t for t in vars(torch).values() if isinstance(t, torch.dtype) and (t.is_floating_point or t.is_complex)}


_NUMBERS = {int, float, bool}

_RECORDED = 256
"""Computations on meta tensors that are remembered: one for each kind of layer and length of a sequence."""


class Interceptor(TorchDispatchMode):
    """Prices every operator of one thread.

    Args:
        planner: Decides how.
        scope: Where operators are charged.
        plans: What was decided, by the operator's ``id``, shared by the threads of a count.
        functions: Prices calls of ``autograd.Function``; None: they are taken for what they run.
    """

    supports_higher_order_operators = True
    is_interceptor = True
    in_subclass = False
    """Whether the operators are those that a tensor subclass runs for another."""
    counts_steps = True
    """Whether an operator that stands for several steps is charged as these."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let dynamo know that this mode changes nothing that it compiles."""
        return True

    def __init__(
        self, planner: Planner, scope: Scope, plans: dict[Any, Plan], functions: FunctionCalls | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.planner = planner
        self.scope = scope
        self.plans = plans
        self.functions = functions
        self.origins = None if functions is None else Origins()
        self.root: Interceptor = self
        self._handlers: dict[Any, bool] = {}
        self.sees_fakes = False
        self._is_pushed = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if types and self._has_handler(types):
            return self._run_by_subclass(func, args, kwargs or {})
        try:
            plan = self.plans[id(func)]
        except KeyError:
            plan = self._decide(func)
        handle = plan.handle
        if handle is not None:
            return handle(self, plan, func, args, kwargs or {})
        try:
            out = plan.run(*args, **kwargs) if kwargs else plan.run(*args)
        except TypeError:
            if plan.operator not in BOUND or takes(func, args, kwargs or {}):
                raise
            out = func(*args, **kwargs or {})
        self.charge(plan, out, args, kwargs)
        return out

    def _decide(self, func: Any) -> Plan:
        return self.plans.setdefault(id(func), self.planner.plan(func))

    def run(self, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator by a plan that is not the one remembered for it."""
        if plan.handle is not None:
            return plan.handle(self, plan, func, args, kwargs)
        out = func(*args, **kwargs)
        self.charge(plan, out, args, kwargs)
        return out

    def _run_by_subclass(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Let a tensor subclass run the operator, and count what that runs; if we see nothing, the operator itself."""
        with self.looking_into(args, kwargs, lenient=True) as watching:
            with self.watched(_Deferring) as watch:
                out = func(*args, **kwargs)
            if not watch.priced:
                self.charge_whole(func, out, args, kwargs)
            elif watching.finds_opaque(out):
                self.charge(self.unpriced(str(func)), out, args, kwargs)
        return out

    def charge_whole(self, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Charge an operator that has run without us."""
        try:
            plan = self.plans[id(func)].of_finished(out, args, kwargs)
        except KeyError:
            plan = self.planner.plan(func).of_finished(out, args, kwargs)
        if plan is not None:
            self.charge(self.plans.setdefault((plan.operator, plan.family), plan), out, args, kwargs)

    def charge(  # noqa: C901, PLR0912  (in parts, each would cost a call)
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place | None = None
    ) -> None:
        """Price a call that has run, and add it to the tally of a frame.

        Args:
            plan: How.
            out: What the call returned.
            args: What it was given.
            kwargs: What it was given by name.
            at: The frame and the phase; None: those that the operator belongs to.
        """
        if at is not None:
            frame, phase = at
        else:
            scope = self.scope
            if scope.settled and graph_task() == _NO_TASK:
                frame, phase = scope.top, scope.phase
            else:
                frame, phase = scope.locate()
        if self.sees_fakes:
            self._charge_unguarded(plan, out, args, kwargs, (frame, phase))
            return
        try:
            while plan.when is not None:
                meets = plan.when(out, *args, **kwargs) if kwargs else plan.when(out, *args)
                plan = plan.special if meets else plan.otherwise  # type: ignore[assignment]
            price = plan.price
            if price is not None:
                macs, arith, activations = price(out, *args, **kwargs) if kwargs else price(out, *args)
        except Exception:
            if plan.from_user:
                raise
            # The user's program must not fail for a formula of ours.
            plan = self.unpriced(plan.operator)
            price = None
        try:
            dtype = args[0].dtype
        except (AttributeError, IndexError):
            dtype = None
        if dtype not in _COMPUTING:
            dtype = _computing_dtype(dtype, out, args, kwargs or {})
        key = (plan, phase, dtype)
        try:
            row = frame.rows[key]
        except KeyError:
            row = frame.rows[key] = Row(_shapes(out, args, kwargs or {}))
        row.calls += 1
        if price is not None:
            row.macs += macs
            row.arith += arith
            row.activations += activations
        if plan.writes:
            try:
                row.bytes += out.nbytes
            except (AttributeError, RuntimeError):
                row.bytes += _written(out)

    def charge_steps(self, steps: Steps) -> None:
        """Charge what an operator stands for."""
        if isinstance(self.plans, PassThrough) or self.scope.muted:
            return
        key = steps.signature, steps.autocast
        recorded = self.planner.recorded.get(key)
        if recorded is None:
            from opcount.interceptor.recorder import record  # noqa: PLC0415  (it imports this file)

            if len(self.planner.recorded) >= _RECORDED:
                self.planner.recorded.clear()
            recorded = self.planner.recorded[key] = record(self, steps.device, steps.run, steps.autocast)
        steps.charge(recorded, *self.scope.locate())

    def note(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note, where somebody asks who wrote what, of an operator that was charged otherwise."""
        if self.origins is not None and "charge" in vars(self.root):
            self.origins.note(self.root, plan, out, args, kwargs)

    def take_back(self, operator: str, out: Tensor) -> None:
        """Uncharge one call of an elementwise operator that was charged right before."""
        take_back(operator, out, *self.scope.locate())

    def unpriced(self, operator: str) -> Plan:
        """Return the plan that names an operator as uncounted, whatever else is known of it."""
        name = (operator, "unpriced")
        if name not in self.plans:
            self.plans[name] = Plan(operator, UNCOUNTED)
        return self.plans[name]

    def _charge_unguarded(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place
    ) -> None:
        """Charge what fake tensors do: formulas compare sizes, which may be symbolic, and leave no guard behind."""
        try:
            self.sees_fakes = False
            with unguarded((*args, *(kwargs or {}).values(), out)):
                Interceptor.charge(self, plan, out, args, kwargs, at)
        finally:
            self.sees_fakes = True

    def _has_handler(self, types: tuple[type, ...]) -> bool:
        found = self._handlers.get(types)
        if found is None:
            found = self._handlers[types] = any(map(_handles_dispatch, types))
            if any(map(is_fake, types)) and not dry_runs():
                self.root.sees_fakes = self.sees_fakes = True
        return found

    def asks(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a composite operator is charged whole; a tensor subclass says more by what it runs."""
        if isinstance(self.plans, PassThrough) or self.planner.composite_plan(func) is None:
            return False
        return not self._has_handler(tuple({type(t) for t in tensors((*args, *kwargs.values()))}))

    def kernel_plan(self, kernel: Any) -> Plan:
        """Return the plan of a Triton kernel."""
        return self.planner.kernel_plan(kernel)

    def look_away(self) -> Callable[[], None]:
        """Charge nothing until what is returned is called."""
        before, self.plans = self.plans, PassThrough()
        return partial(setattr, self, "plans", before)

    def push_here(self, undo: Undo) -> None:
        """Put the mode on this thread's stack, without PyTorch's flags for dynamo, which runs nothing meanwhile."""
        see_composites(self.planner.composites, undo)
        undo.add(partial(self._take_off, undo))
        push_mode(self)
        self._is_pushed = True

    def _take_off(self, undo: Undo) -> None:
        """Take the mode off this thread's stack; modes that were pushed later and never popped stay there."""
        was_pushed, self._is_pushed = self._is_pushed, False
        if self.origins is not None:
            self.origins.close(self)
        if mode_count() == 1 and mode_at(0) is self:
            pop_mode(None)
            return
        stack = modes_below()
        kept = [mode for mode in stack if getattr(mode, "scope", None) is not self.scope]
        try:
            replace_modes(kept)
        finally:
            replace_modes(kept)
        if was_pushed and self not in stack and undo.error is None:
            raise CounterStateError(
                "OpCounter: the block was left on another thread, or in another context, than it was entered. "
                "Enter and leave a counter on one thread."
            )

    @contextmanager
    def reentered(self) -> Iterator[None]:
        """See what a kernel calls inside."""
        height = mode_count()
        try:
            push_mode(self)
            yield
        finally:
            while mode_count() > height:
                pop_mode(None)

    def absent(self) -> AbstractContextManager[None]:
        """See nothing of what this thread runs."""
        return without([self])

    def run_function(self, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run the forward of an ``autograd.Function``."""
        return run() if self.functions is None else self.functions.run_forward(self, function, args, run)

    def run_backward(self, node: Any, grads: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run the backward of an ``autograd.Function``."""
        return run() if self.functions is None else self.functions.run_backward(self, node, grads, run)

    def run_vmap(self, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run the rule for ``vmap`` of an ``autograd.Function``."""
        return run() if self.functions is None else self.functions.run_vmap(self, function, args, run)

    def run_jvp(self, node: Any, tangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run the forward derivative of an ``autograd.Function``."""
        return run() if self.functions is None else self.functions.run_jvp(self, node, tangents, run)

    def looking_into(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, lenient: bool = False
    ) -> AbstractContextManager[Watching]:
        """Look for what makes the results of a call while the block runs; leniently where that is a program's."""
        return looking_into(self.origins, self.root, (*args, *kwargs.values()), lenient=lenient)

    @contextmanager
    def watched(self, kind: type[Watch] | None = None) -> Iterator[Watch]:
        """See what a kernel calls inside, and note whether anything of it is priced."""
        watch = (kind or Watch)(self)
        with watch.reentered():
            yield watch

    def deferring(self) -> Deferring:
        """Return the same interceptor once more, to be entered; it keeps what it charges until that is certain."""
        from opcount.interceptor.deferring import Deferring  # noqa: PLC0415  (it imports this file)

        return Deferring(self)

    def watch(self) -> Watch:
        """Return the same interceptor once more, to be entered; it notes whether anything is priced."""
        return Watch(self)


class Watch(Interceptor):
    """The same interceptor once more, noting whether an operator was counted."""

    def __init__(self, outer: Interceptor) -> None:
        super().__init__(outer.planner, outer.scope, outer.plans, outer.functions)
        self.origins, self.root = outer.origins, outer.root
        self.priced = False
        self._outer = outer

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place | None = None
    ) -> None:
        """Charge, and note it."""
        if plan.family != FREE:
            self.priced = True
        self._outer.charge(plan, out, args, kwargs, at)

    def charge_steps(self, steps: Steps) -> None:
        """Charge, and note it."""
        self.priced = True
        self._outer.charge_steps(steps)


def _fake_mode() -> Any:
    return infra_mode(FAKE_MODE)


def _any_meta(args: tuple[Any, ...]) -> bool:
    return any(tensor.is_meta for tensor in tensors(args))


class _Deferring(Watch):
    """Leaves the first operator to its tensor subclass.

    A subclass may run operators on fake or meta tensors of its own first, to learn the shapes of results: DTensor
    does. Nothing is charged for these.
    """

    in_subclass = True

    def __init__(self, outer: Interceptor) -> None:
        super().__init__(outer)
        self._first = True
        self._fake_mode = _fake_mode()
        self._on_meta = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._first:
            self._first = False
            self._on_meta = _any_meta(args)
            return NotImplemented
        if _fake_mode() not in (None, self._fake_mode) or (not self._on_meta and _any_meta(args)):
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _handles_dispatch(kind: type) -> bool:
    """Return whether a subclass runs operators itself; a parameter that a lazy module has not made yet does not.

    Fake and functional tensors stand for one tensor each: what they are asked is what is computed.
    """
    own = getattr(kind, "__torch_dispatch__", None)
    return own is not torch.Tensor.__torch_dispatch__ and not is_fake(kind)


def _computing_dtype(dtype: torch.dtype | None, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the dtype of the first floating-point tensor, else of the first tensor, of arguments then results."""
    found = [t.dtype for t in tensors((*args, *kwargs.values(), out))]
    return next((d for d in found if d in _COMPUTING), dtype or (found[0] if found else None))


def _written(out: Any) -> int:
    """Count the bytes of several outputs; sparse and nested ones that cannot say have none.

    A last one of plain bytes behind numbers is what a recurrent kernel keeps for its backward; fake kernels cannot
    tell how much that is.
    """
    total = 0
    several = isinstance(out, tuple) and len(out) > 1
    if several and getattr(out[-1], "dtype", None) is torch.uint8 and getattr(out[0], "dtype", None) in _COMPUTING:
        out = out[:-1]
    for value in out if isinstance(out, (list, tuple)) else (out,):
        if isinstance(value, Tensor):
            try:
                total += value.nbytes
            except RuntimeError:
                total += value.numel() * value.element_size() if has_symbolic_sizes((value,)) else 0
        elif isinstance(value, (list, tuple)):
            total += _written(value)
    return total


def _shapes(out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes:
    """Return the shapes of a call's arguments and results."""
    return tuple(_shapes_of((*args, *kwargs.values()) if kwargs else args)), tuple(_shapes_of((out,)))


def _shapes_of(values: Sequence[Any]) -> list[tuple[int, ...] | None]:
    """Return the shapes of the tensors among values, those in lists included; a nested one has none."""
    shapes: list[tuple[int, ...] | None] = []
    for value in values:
        if isinstance(value, Tensor):
            try:
                shapes.append(value.shape)
            except RuntimeError:
                shapes.append(None)
        elif type(value) in _NUMBERS or not isinstance(value, (list, tuple)) or not value:
            continue
        elif type(value[0]) not in _NUMBERS:
            shapes += _shapes_of(value)
    return shapes
