"""The dispatch mode: runs every operator by its plan, and hands it to a till. Its dispatch is the hot path."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.autograd import graph_task
from opcount._torch.dispatch import fake_mode, mode_at, mode_count, pop_mode, push_mode
from opcount.errors import CounterStateError
from opcount.identity import identity
from opcount.interceptor.calls import is_fake, takes, tensors
from opcount.interceptor.composites import see_composites
from opcount.interceptor.fast_calls import BOUND
from opcount.interceptor.operator_steps import take_back
from opcount.interceptor.paused import PassThrough
from opcount.interceptor.plan import unpriced
from opcount.interceptor.stack import TransparentMode, dry_runs, modes_below, replace_modes, without
from opcount.interceptor.till import NotingTill, UnguardedTill
from opcount.interceptor.tracing import record_here
from opcount.interceptor.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor

    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.function_calls import FunctionCalls
    from opcount.interceptor.operator_steps import OperatorSteps, Recorded
    from opcount.interceptor.origins import Origins
    from opcount.interceptor.places import Located, Places
    from opcount.interceptor.plan import Plan
    from opcount.interceptor.planner import Planner
    from opcount.interceptor.till import AnyTill
    from opcount.undo import Undo

_NO_TASK = -1
_DETACH = torch.ops.aten.detach.default


class Interceptor(TransparentMode):
    """Sees every operator of one thread.

    Args:
        planner: Decides how operators are priced.
        scope: Knows where operators run.
        plans: What was decided, by the operator's ``id``, shared by the threads of a count.
        till: Charges what has run.
        functions: Prices calls of ``autograd.Function``; None: they are taken for what they run.
        origins: Knows who wrote the memory of tensors; None: nobody asks.
        record: Returns what the steps of an operator are charged; None: no till counts steps.
    """

    is_interceptor = True
    in_subclass = False
    """True if the operators are those that a tensor subclass runs for another."""

    def __init__(
        self,
        planner: Planner,
        scope: Places,
        plans: dict[Any, Plan],
        till: AnyTill,
        functions: FunctionCalls | None = None,
        origins: Origins | None = None,
        record: Callable[[OperatorSteps], Recorded] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.planner = planner
        self.scope = scope
        self.plans = plans
        self.till = till
        self.functions = functions
        self.origins = origins
        self.record = record
        self._handlers: dict[Any, bool] = {}
        self.sees_fakes = False
        self._is_pushed = False

    def again(self, till: AnyTill, kind: type[Interceptor] | None = None) -> Interceptor:
        """Return the same mode once more, to be entered, with another till."""
        return (kind or Interceptor)(
            self.planner, self.scope, self.plans, till, self.functions, self.origins, self.record
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if types and self._handlers.get(types) is not False and self._has_handler(types):
            return self._run_by_subclass(func, args, kwargs or {})
        try:
            plan = self.plans[identity(func)]
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
        scope = self.scope
        if scope.settled and graph_task() == _NO_TASK:
            self.till.charge(plan, out, args, kwargs, scope.top, scope.phase)
        else:
            self.till.charge(plan, out, args, kwargs, *scope.locate())
        if scope.returned is not None:  # so it is while origins are active; their own attribute is further away
            self.note(plan, out, args, kwargs or {})
        return out

    def _decide(self, func: Any) -> Plan:
        return self.plans.setdefault(identity(func), self.planner.plan(func))

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
            with self.noting(_InSubclass) as inside:
                out = func(*args, **kwargs)
            if not inside.priced:
                self.charge_finished(func, out, args, kwargs)
            elif watching.finds_opaque(out):
                self.charge(unpriced(str(func)), out, args, kwargs)
        return out

    def charge(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Charge a call that has run in the running module."""
        self.till.charge(plan, out, args, kwargs, *self.scope.locate())
        self.note(plan, out, args, kwargs or {})

    def charge_in(
        self, place: Located, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> None:
        """Charge a call that has run in a place."""
        self.till.charge(plan, out, args, kwargs, *place)
        self.note(plan, out, args, kwargs or {})

    def charge_finished(self, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Charge an operator that has run without us."""
        try:
            plan = self.plans[identity(func)].of_finished(out, args, kwargs)
        except KeyError:
            plan = self.planner.plan(func).of_finished(out, args, kwargs)
        if plan is not None:
            self.charge(self.plans.setdefault((plan.operator, plan.family), plan), out, args, kwargs)

    @property
    def counts_steps(self) -> bool:
        """True if an operator that stands for several steps is charged as these."""
        return self.till.counts_steps and self.record is not None

    @property
    def is_paused(self) -> bool:
        """True if nothing is charged."""
        return isinstance(self.plans, PassThrough)

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the memory of a call that is charged as steps."""
        self.till.see(plan, out, args, kwargs, self.scope.locate())

    def charge_steps(self, steps: OperatorSteps) -> None:
        """Charge what an operator stands for."""
        if self.is_paused or self.record is None:
            return
        if self.scope.muted:
            steps.note_calls(self.scope.frame)
        else:
            self.till.charge_steps(steps, self.record(steps), *self.scope.locate())

    def note(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of an operator that has run, where somebody asks who wrote what."""
        origins = self.origins
        if origins is not None and origins.active:
            origins.note(plan.operator, plan.family, out, args, kwargs)

    def take_back(self, operator: str, out: Tensor) -> None:
        """Uncharge one call of an elementwise operator that was charged right before."""
        take_back(operator, out, *self.scope.locate())

    def _has_handler(self, types: tuple[type, ...]) -> bool:
        found = self._handlers.get(types)
        if found is None:
            found = self._handlers[types] = any(map(_handles_dispatch, types))
            if not self.sees_fakes and any(map(is_fake, types)) and not dry_runs():
                self.sees_fakes = True
                self.till = UnguardedTill(self.till)
        return found

    def asks(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a composite operator is charged whole; a tensor subclass says more by what it runs."""
        if self.is_paused or self.planner.composite_plan(func) is None:
            return False
        return not self._has_handler(tuple({type(t) for t in tensors((*args, *kwargs.values()))}))

    def composite_plan(self, func: OpOverload) -> Plan | None:
        """Return the plan of a composite operator that is charged whole."""
        return self.planner.composite_plan(func)

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
        record_here(undo)

    def abandon(self) -> None:
        """Do not mind being off the stack when the block is left: a forked process has no modes of ours."""
        self._is_pushed = False

    def _take_off(self, undo: Undo) -> None:
        """Take the mode off this thread's stack; modes that were pushed later and never popped stay there."""
        was_pushed, self._is_pushed = self._is_pushed, False
        if self.origins is not None:
            self.origins.close()
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

    def run_under(self, run: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and see what it calls; as `reentered` does, in less time."""
        height = mode_count()
        try:
            push_mode(self)
            return run(*args)
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

    def looking_into(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, lenient: bool = False) -> Watching:
        """Look for what makes the results of a call while the block runs; leniently where that is a program's."""
        return Watching(self.origins, (*args, *kwargs.values()), lenient=lenient)

    @contextmanager
    def noting(self, kind: type[Interceptor] | None = None) -> Iterator[NotingTill]:
        """See what a kernel calls inside, and note whether anything of it is priced."""
        till = NotingTill(self.till)
        with self.again(till, kind).reentered():
            yield till

    def deferring(self) -> tuple[Interceptor, Callable[[], None]]:
        """Return the same mode once more, to be entered; it charges what it sees when what is returned is called."""
        till = self.till.deferred()
        return self.again(till), till.pay


def _any_meta(args: tuple[Any, ...]) -> bool:
    return any(tensor.is_meta for tensor in tensors(args))


class _InSubclass(Interceptor):
    """Leaves the first operator to its tensor subclass.

    A subclass may run operators on fake or meta tensors of its own first, to learn the shapes of results: DTensor
    does. Nothing is charged for these.
    """

    in_subclass = True

    def __init__(self, *state: Any) -> None:
        super().__init__(*state)
        self._is_first = True
        self._fake_mode = fake_mode()
        self._on_meta = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._is_first:
            self._is_first = False
            self._on_meta = _any_meta(args)
            return NotImplemented
        if func is _DETACH and types and self._has_handler(types):
            return NotImplemented  # up to 2.9 PyTorch detaches what a subclass has detached, so this would never end
        if fake_mode() not in (None, self._fake_mode) or (not self._on_meta and _any_meta(args)):
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _handles_dispatch(kind: type) -> bool:
    """Return whether a subclass runs operators itself; a parameter that a lazy module has not made yet does not.

    Fake and functional tensors stand for one tensor each: what they are asked is what is computed.
    """
    own = getattr(kind, "__torch_dispatch__", None)
    return own is not torch.Tensor.__torch_dispatch__ and not is_fake(kind)
