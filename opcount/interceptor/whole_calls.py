"""Operators as they were called: ``aten.linear``, where an interceptor sees the ``addmm`` that it becomes.

Autograd takes composite operators apart before a dispatch mode sees them. Here it is passed over, so that they arrive
whole; what runs inside is priced as in every count, and told of in one sum.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from opcount._torch.dispatch import HigherOrderOperator, below_autograd
from opcount.convention import FVCORE
from opcount.cost import Cost
from opcount.coverage import UNCOUNTED
from opcount.interceptor.calls import tensors
from opcount.interceptor.fast_calls import fast_call_of
from opcount.interceptor.function_calls import FunctionCalls
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.observe import observe
from opcount.interceptor.origins import Origins
from opcount.interceptor.planner import Planner
from opcount.interceptor.recall import Recall
from opcount.interceptor.scripts import hidden_kernels
from opcount.scope import Frame, Scopes
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from torch import nn

    from opcount.interceptor.mode import Place
    from opcount.interceptor.plan import Plan
    from opcount.interceptor.recall import DryRun
    from opcount.scope import Scope


class Call(NamedTuple):
    """One operator that ran.

    Attributes:
        operator: The overload's name, ``"aten.linear.default"``; ``"autograd.Name"`` of an ``autograd.Function``.
        func: The overload itself; None if the call is known by its name only.
        stack: Paths of the modules that were running, the root ``""`` first.
        args: Its arguments.
        kwargs: Its keyword arguments.
        out: What it returned.
        flops: Of all that ran inside, under the fvcore convention.
        macs: Of all that ran inside.
        activations: Elements of the outputs of the convolutions and products inside.
        priced: False if something ran inside that nothing explains.
    """

    operator: str
    func: Any
    stack: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    flops: int
    macs: int
    activations: int
    priced: bool


@contextmanager
def whole_calls(
    model: nn.Module,
    tell: Callable[[Call], None],
    parts_of: Collection[str],
    functions: Collection[str] = (),
    *,
    dry_run: DryRun | None = None,
    with_autograd: bool = False,
) -> Iterator[Scopes]:
    """Tell of every operator that returns a tensor, whole, while the block runs.

    Args:
        model: Gives modules their paths.
        tell: Called after each operator, while its arguments are alive.
        parts_of: Packets, ``"aten.conv2d"``, whose parts are told of in their place.
        functions: Names of classes of ``autograd.Function`` that are told of whole. Others are told of by what they
            run, and by themselves where they have a formula or their results come from no operator that was seen.
        dry_run: That this thread is in; None: it is in none.
        with_autograd: Let autograd record, and so take composite operators apart: their parts are told of.
    """
    recall = Recall()
    planner = Planner(runner_of=fast_call_of if dry_run is None else recall, asks_composites=True)
    plans: dict[Any, Plan] = {}
    modes: list[_Whole] = []
    calls = FunctionCalls(planner)

    def mode_for(scope: Scope) -> _Whole:
        modes.append(_Whole(planner, scope, plans, calls, tell, parts_of, functions))
        return modes[-1]

    def adopt(scope: Scope, undo: Undo) -> None:
        recall.join(undo)
        mode_for(scope).push_here(undo)

    def charge_module(
        module: nn.Module, frame: Frame, _phase: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        modes[0].tell_of(planner.module_plan(type(module)), frame, out, args, kwargs)

    def charge_script(module: nn.Module, frame: Frame, _phase: str, out: Any) -> None:
        for name in hidden_kernels(module):
            tell(Call(name.replace(".", "::"), None, frame.stack(), (), {}, out, 0, 0, 0, priced=False))

    scopes = Scopes(model, adopt, planner.priced_modules(), charge_module, charge_script)
    with Undo() as undo:
        if dry_run is not None:
            recall.begin(dry_run, undo)
        observe(scopes, mode_for, undo)
        if not with_autograd:
            undo.enter(_below_autograd())
        yield scopes


@contextmanager
def _below_autograd() -> Iterator[None]:
    with below_autograd():
        yield


class _Whole(Interceptor):
    """Tells of operators instead of charging them."""

    counts_steps = False

    def __init__(
        self,
        planner: Planner,
        scope: Scope,
        plans: dict[Any, Plan],
        functions: FunctionCalls,
        tell: Callable[[Call], None],
        parts_of: Collection[str],
        told_functions: Collection[str],
    ) -> None:
        super().__init__(planner, scope, plans, functions)
        self._tell = tell
        self._parts_of = parts_of
        self._told_functions = told_functions
        self._functions = 0
        self._told_in_parts: dict[int, bool] = {}
        self._stacks: dict[Frame, tuple[str, ...]] = {}
        self._inside = _Inside(self)
        self.origins = self._inside.origins
        self.root = self._inside

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plan = self.plans.get(id(func)) or self._decide(func)
        if plan.handle is None or (types and self._has_handler(types)) or self._is_told_in_parts(func):
            return super().__torch_dispatch__(func, types, args, kwargs)
        kwargs = kwargs or {}
        if not self._functions:
            self._inside.forget()
        with self._inside.adding_up():
            out = func(*args, **kwargs)
        self._tell_of_sum(str(func), func, self._frame(), out, args, kwargs)
        return out

    def _frame(self) -> Frame:
        """Return where an operator runs; called from as far below the operator as `charge` calls `Scope.locate`."""
        return self.scope.locate()[0]

    def _is_told_in_parts(self, func: Any) -> bool:
        told = self._told_in_parts.get(id(func))
        if told is None:
            is_higher_order = isinstance(func, HigherOrderOperator)
            told = is_higher_order or str(func).rpartition(".")[0] in self._parts_of
            self._told_in_parts[id(func)] = told
        return told

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place | None = None
    ) -> None:
        """Tell of an operator that runs no others, or that was not seen from outside: of a tensor subclass."""
        frame, _ = at or self.scope.locate()
        self.tell_of(plan, frame, out, args, kwargs or {})

    def tell_of(self, plan: Plan, frame: Frame, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tell of a call that has run, by its plan alone."""
        shown = {} if "cost" in kwargs else kwargs
        if self._functions or self.sees_fakes or self._inside.is_noting:
            self._inside.add(plan, out, args, kwargs)
            self._tell_of_sum(plan.operator, plan.func, frame, out, args, shown)
            return
        chosen, cost = plan.priced(out, args, kwargs)
        if not self.scope.muted and (type(out) is Tensor or next(tensors((out,)), None) is not None):
            flops = FVCORE.flops(plan.operator, chosen.family, cost)
            stack = self._stacks.get(frame) or self._stacks.setdefault(frame, frame.stack())
            is_priced = chosen.family != UNCOUNTED
            macs, _, activations = cost
            self._tell(Call(plan.operator, plan.func, stack, args, shown, out, flops, macs, activations, is_priced))

    def run_function(self, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run an ``autograd.Function``; one that was asked for is told of, and not what it does."""
        if function.__name__ not in self._told_functions:
            return super().run_function(function, args, run)
        self._functions += 1
        try:
            out = run()
        finally:
            self._functions -= 1
        given = tuple(tensors(args))
        self._tell_of_sum(f"autograd.{function.__name__}", None, self._frame(), out, given, {})
        return out

    def _tell_of_sum(
        self, operator: str, func: Any, frame: Frame, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self._functions:
            return
        flops, macs, activations, priced = self._inside.take()
        if not self.scope.muted and next(tensors((out,)), None) is not None:
            self._tell(Call(operator, func, frame.stack(), args, kwargs, out, flops, macs, activations, priced))


class _Inside(Interceptor):
    """Adds up what runs inside one operator, and tells of what runs in none."""

    counts_steps = False

    def __init__(self, outer: _Whole) -> None:
        super().__init__(outer.planner, outer.scope, outer.plans)
        self.origins = Origins()
        self._outer = outer
        self._tally = Frame("")
        self._at = (self._tally, "")
        self._depth = 0

    @property
    def is_noting(self) -> bool:
        """Whether somebody takes note of every operator."""
        return "charge" in vars(self)

    @contextmanager
    def adding_up(self) -> Iterator[None]:
        """See what one operator runs inside."""
        self._depth += 1
        try:
            with self.reentered():
                yield
        finally:
            self._depth -= 1

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place | None = None
    ) -> None:
        """Charge the sum in the place of any frame."""
        if self._depth:
            super().charge(plan, out, args, kwargs, self._at)
        else:
            self._outer.charge(plan, out, args, kwargs, at)

    def add(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Add a call that has run outside of any operator."""
        self._depth += 1
        try:
            self.charge(plan, out, args, kwargs)
        finally:
            self._depth -= 1

    def forget(self) -> None:
        """Begin anew: an operator that failed leaves the sum of what it did before."""
        self._tally.rows.clear()

    def take(self) -> tuple[int, int, int, bool]:
        """Return FLOPs, MACs, activations, and whether all was priced; begin anew."""
        flops = macs = activations = 0
        priced = True
        for (plan, *_), row in self._tally.rows.items():
            flops += FVCORE.flops(plan.operator, plan.family, Cost(row.macs, row.arith))
            macs += row.macs
            activations += row.activations
            priced &= plan.family != UNCOUNTED
        self.forget()
        return flops, macs, activations, priced
