"""Operators as they were called: ``aten.linear``, where an interceptor sees the ``addmm`` that it becomes.

Autograd takes composite operators apart before a dispatch mode sees them. Here it is passed over, so that they arrive
whole; what runs inside is priced as in every count, and told of in one sum.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
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
from opcount.interceptor.per_thread import charge_unpriced
from opcount.interceptor.planner import Planner
from opcount.interceptor.recall import Recall
from opcount.interceptor.scripts import hidden_kernels
from opcount.interceptor.stack import interceptors
from opcount.interceptor.symbolic import unguarded
from opcount.interceptor.till import DeferringTill, Till
from opcount.scope import Frame, Scopes
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from torch import nn

    from opcount.interceptor.operator_steps import OperatorSteps, Recorded
    from opcount.interceptor.plan import Plan
    from opcount.interceptor.recall import AnyDryRun
    from opcount.interceptor.till import Deferral
    from opcount.scope import Row, Scope

_NO_COST = Cost()


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
    dry_run: AnyDryRun | None = None,
    with_autograd: bool = False,
) -> Iterator[Scopes]:
    """Report every operator that returns a tensor, whole, while the block runs.

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
        modes.append(_Whole(planner, scope, plans, _TellingTill(tell, scope), calls, parts_of, functions))
        return modes[-1]

    def adopt(scope: Scope, undo: Undo) -> None:
        recall.join(undo)
        mode_for(scope).push_here(undo)

    def charge_module(
        module: nn.Module, frame: Frame, phase: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        here = next((mode for mode in interceptors() if mode in modes), modes[0])
        with unguarded((*args, *kwargs.values(), out)):
            here.telling.charge(planner.module_plan(type(module)), out, args, kwargs, frame, phase)

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
    """Runs operators so that a till may report them whole."""

    def __init__(
        self,
        planner: Planner,
        scope: Scope,
        plans: dict[Any, Plan],
        telling: _TellingTill,
        functions: FunctionCalls,
        parts_of: Collection[str],
        told_functions: Collection[str],
    ) -> None:
        origins = Origins(scope, partial(charge_unpriced, telling, scope))
        super().__init__(planner, scope, plans, telling, functions, origins)
        self.telling = telling
        self._parts_of = parts_of
        self._told_functions = told_functions
        self._told_in_parts: dict[int, bool] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plan = self.plans.get(id(func)) or self._decide(func)
        telling = self.telling
        if plan.handle is None or telling.sums or (types and self._has_handler(types)) or self._is_told_in_parts(func):
            return super().__torch_dispatch__(func, types, args, kwargs)
        kwargs = kwargs or {}
        with telling.summing(), self.reentered():
            out = func(*args, **kwargs)
        telling.tell_of_sum(str(func), func, self.scope.locate()[0], out, args, kwargs)
        return out

    def _is_told_in_parts(self, func: Any) -> bool:
        told = self._told_in_parts.get(id(func))
        if told is None:
            is_higher_order = isinstance(func, HigherOrderOperator)
            told = is_higher_order or str(func).rpartition(".")[0] in self._parts_of
            self._told_in_parts[id(func)] = told
        return told

    def run_function(self, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run an ``autograd.Function``; one that was asked for is told of, and not what it does."""
        if function.__name__ not in self._told_functions:
            return super().run_function(function, args, run)
        if self.telling.sums:
            return run()
        with self.telling.summing():
            out = run()
        given = tuple(tensors(args))
        name = f"autograd.{function.__name__}"
        self.telling.tell_of_sum(name, None, self.scope.locate()[0], out, given, {})
        return out


class _TellingTill:
    """Reports calls, or adds them up to report the sum.

    Args:
        tell: Called with each `Call`.
        scope: Knows whether a module around is priced as a whole.

    Attributes:
        sums: Whether calls are added up: they run inside of an operator, or a function, that is told of whole.
    """

    counts_steps = False

    def __init__(self, tell: Callable[[Call], None], scope: Scope) -> None:
        self.sums = False
        self._tell = tell
        self._scope = scope
        self._stacks: dict[Frame, tuple[str, ...]] = {}
        self._tally = Frame("")
        self._till = Till()

    @contextmanager
    def summing(self) -> Iterator[None]:
        """Add up what is charged while the block runs; an operator that failed left the sum of what it did before."""
        self._tally.rows.clear()
        self.sums = True
        try:
            yield
        finally:
            self.sums = False

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Report a call that has run, by its plan alone, or add it to the sum."""
        if self.sums:
            self._till.charge(plan, out, args, kwargs, self._tally, phase)
        elif not self._scope.muted and (type(out) is Tensor or next(tensors((out,)), None) is not None):
            self._tell(self._call(plan, out, args, kwargs, frame))
        else:
            plan.priced(out, args, kwargs)  # a formula of the user's that fails is an error

    def _call(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame) -> Call:
        chosen, cost = plan.priced(out, args, kwargs)
        flops = 0 if cost is None else FVCORE.flops(plan.operator, chosen.family, cost)
        stack = self._stacks.get(frame) or self._stacks.setdefault(frame, frame.stack())
        macs, _, activations = cost or _NO_COST
        shown = {} if kwargs is None or "cost" in kwargs else kwargs
        is_priced = chosen.family != UNCOUNTED
        return Call(plan.operator, plan.func, stack, args, shown, out, flops, macs, activations, is_priced)

    def charge_steps(self, steps: OperatorSteps, recorded: Recorded, frame: Frame, phase: str) -> None:
        """Refuse: steps are not reported."""
        raise NotImplementedError

    def add_rows(self, _frame: Frame, rows: Mapping[Any, Row]) -> None:
        """Add to the sum."""
        self._till.add_rows(self._tally, rows)

    def deferred(self) -> Deferral:
        """Return a till that keeps calls, or their sum, until they are paid."""
        return DeferringTill(self) if self.sums else _DeferredTelling(self._tell, self._scope)

    def tell_of_sum(
        self, operator: str, func: Any, frame: Frame, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Report a call by the sum of what it did."""
        if self._scope.muted or next(tensors((out,)), None) is None:
            return
        flops = macs = activations = 0
        priced = True
        for (plan, *_), row in self._tally.rows.items():
            flops += FVCORE.flops(plan.operator, plan.family, Cost(row.macs, row.arith))
            macs += row.macs
            activations += row.activations
            priced &= plan.family != UNCOUNTED
        self._tell(Call(operator, func, frame.stack(), args, kwargs, out, flops, macs, activations, priced))


class _DeferredTelling(_TellingTill):
    """Keeps calls until it is certain that they are to be reported."""

    def __init__(self, tell: Callable[[Call], None], scope: Scope) -> None:
        self._calls: list[Call] = []
        self._tell_later = tell
        super().__init__(self._calls.append, scope)

    def pay(self) -> None:
        """Report all calls that were kept."""
        for call in self._calls:
            self._tell_later(call)
