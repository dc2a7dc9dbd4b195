"""Operators as they were called: ``aten.linear``, where an interceptor sees the ``addmm`` that it becomes.

Autograd takes composite operators apart before a dispatch mode sees them. Here it is passed over, so that they arrive
whole; what runs inside is priced as in every count, and told of in one sum.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from opcount._torch.dispatch import HigherOrderOperator, below_autograd
from opcount.convention import FVCORE
from opcount.cost import Cost
from opcount.coverage import UNCOUNTED
from opcount.identity import identity
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
from opcount.interceptor.till import DeferringTill
from opcount.scope import Scopes
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from torch import nn

    from opcount.interceptor.operator_steps import OperatorSteps, Recorded
    from opcount.interceptor.places import Located
    from opcount.interceptor.plan import Handler, Mode, Plan
    from opcount.interceptor.recall import AnyDryRun
    from opcount.interceptor.till import Deferral
    from opcount.scope import Frame, Row, Scope


class Call(NamedTuple):
    """One operator that ran, or the sum of several calls of it in one chain of modules.

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
        elements: Of the tensor that it returned; 0 if that is a list or tuple.
        calls: Number of calls that this one is the sum of; their arguments and results are gone.
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
    elements: int
    calls: int = 1


@contextmanager
def whole_calls(
    model: nn.Module,
    tell: Callable[[Call], None],
    parts_of: Collection[str],
    functions: Collection[str] = (),
    *,
    one_by_one: Callable[[str], bool] = lambda _: True,
    dry_run: AnyDryRun | None = None,
    with_autograd: bool = False,
) -> Iterator[Scopes]:
    """Report every operator that returns a tensor, whole, while the block runs.

    Args:
        model: Gives modules their paths.
        tell: Called after an operator that is reported by itself, while its arguments are alive; for the others at the
            end of the block, with sums of calls that are alike in having a cost.
        parts_of: Packets, ``"aten.conv2d"``, whose parts are told of in their place.
        functions: Names of classes of ``autograd.Function`` that are told of whole. Others are told of by what they
            run, and by themselves where they have a formula or their results come from no operator that was seen.
        one_by_one: Returns whether an operator, by its name, is reported by itself.
        dry_run: That this thread is in; None: it is in none.
        with_autograd: Let autograd record, and so take composite operators apart: their parts are told of.
    """
    recall = Recall()
    planner = Planner(runner_of=fast_call_of if dry_run is None else recall, asks_composites=True)
    plans: dict[Any, Plan] = {}
    modes: list[_Whole] = []
    calls = FunctionCalls(planner)

    def mode_for(scope: Scope) -> _Whole:
        modes.append(_Whole(planner, scope, plans, _TellingTill(tell, scope, one_by_one), calls, parts_of, functions))
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
            tell(Call(name.replace(".", "::"), None, frame.stack(), (), {}, out, 0, 0, 0, priced=False, elements=0))

    scopes = Scopes(model, adopt, planner.priced_modules(), charge_module, charge_script)
    with Undo() as undo:
        if dry_run is not None:
            recall.begin(dry_run, undo)
        observe(scopes, mode_for, undo)
        if not with_autograd:
            undo.enter(_below_autograd())
        yield scopes
    for mode in modes:
        mode.telling.tell_of_sums()


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

    def _decide(self, func: Any) -> Plan:
        plan = self.planner.plan(func)
        is_told_in_parts = isinstance(func, HigherOrderOperator) or str(func).rpartition(".")[0] in self._parts_of
        if plan.handle is not None and not is_told_in_parts:
            plan = replace(plan, handle=_Summing(plan.handle))
        return self.plans.setdefault(identity(func), plan)

    def run_function(self, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run an ``autograd.Function``; one that was asked for is told of, and not what it does."""
        if function.__name__ not in self._told_functions:
            return super().run_function(function, args, run)
        if self.telling.sums:
            return run()
        out = self.telling.sum_up(run)
        given = tuple(tensors(args))
        name = f"autograd.{function.__name__}"
        self.telling.tell_of_sum(name, None, self.scope.locate()[0], out, given, {})
        return out


class _Summing:
    """Runs calls as another handler does, and reports the sum of what was charged."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self.plan_of_finished = handle.plan_of_finished

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not isinstance(mode, _Whole) or mode.telling.sums:
            return self._handle(mode, plan, func, args, kwargs)
        out = mode.telling.sum_up(self._handle, mode, plan, func, args, kwargs)
        mode.telling.tell_of_sum(plan.operator, func, mode.scope.locate()[0], out, args, kwargs)
        return out


class _TellingTill:
    """Reports calls, or adds them up to report the sum.

    Args:
        tell: Called with each `Call`.
        scope: Knows whether a module around is priced as a whole.
        one_by_one: Returns whether an operator is reported by itself; the others wait for `tell_of_sums`.

    Attributes:
        sums: Whether calls are added up: they run inside of an operator, or a function, that is told of whole.
    """

    counts_steps = False

    def __init__(self, tell: Callable[[Call], None], scope: Scope, one_by_one: Callable[[str], bool]) -> None:
        self.sums = False
        self._tell = tell
        self._scope = scope
        self._one_by_one = cache(one_by_one)
        self._inside = _Sum()
        self._waiting: dict[Any, _Sum] = {}

    def sum_up(self, run: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and add up what is charged meanwhile."""
        self._inside = _Sum()
        self.sums = True
        try:
            return run(*args)
        finally:
            self.sums = False

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Report a call that has run, by its plan alone, or add it to the sum."""
        del phase
        chosen, cost = plan.priced(out, args, kwargs)  # a formula of the user's that fails is an error
        total = self._inside if self.sums else _Sum()
        if cost is not None:
            total.add(chosen, *cost)
        if chosen.family == UNCOUNTED:
            total.priced = False
        if not self.sums:
            shown = {} if kwargs is None or "cost" in kwargs else kwargs
            self._report(plan.operator, plan.func, frame, out, args, shown, total)

    def charge_steps(self, steps: OperatorSteps, recorded: Recorded, frame: Frame, phase: str) -> None:
        """Refuse: steps are not reported."""
        raise NotImplementedError

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: Located) -> None:
        """Do nothing."""

    def add_rows(self, _frame: Frame, rows: Mapping[Any, Row]) -> None:
        """Add to the sum."""
        for (plan, *_), row in rows.items():
            self._inside.add(plan, row.macs, row.arith, row.activations)
            self._inside.priced &= plan.family != UNCOUNTED

    def deferred(self) -> Deferral:
        """Return a till that keeps calls, or their sum, until they are paid."""
        return DeferringTill(self) if self.sums else _DeferredTelling(self._tell, self._scope)

    def tell_of_sum(
        self, operator: str, func: Any, frame: Frame, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Report a call by the sum of what it did."""
        self._report(operator, func, frame, out, args, kwargs, self._inside)

    def _report(
        self, operator: str, func: Any, frame: Frame, out: Any, args: Any, kwargs: dict[str, Any], total: _Sum
    ) -> None:
        if self._scope.muted:
            return
        elements = 0
        if isinstance(out, Tensor):
            elements = out.numel()
        elif next(tensors((out,)), None) is None:
            return
        if self._one_by_one(operator):
            self._tell(Call(operator, func, frame.stack(), args, kwargs, out, *total.numbers(), elements))
            return
        key = (frame, operator, total.priced, bool(total.flops), bool(total.macs), bool(total.activations))
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Sum()
            waiting.priced = total.priced
        waiting.calls += 1
        waiting.flops += total.flops
        waiting.macs += total.macs
        waiting.activations += total.activations
        waiting.elements += elements

    def tell_of_sums(self) -> None:
        """Report the calls that wait, those of one operator in one chain of modules together."""
        for (frame, operator, *_), total in self._waiting.items():
            stack = frame.stack()
            self._tell(Call(operator, None, stack, (), {}, None, *total.numbers(), total.elements, total.calls))


class _Sum:
    """Running sum of calls; see `Call` for its attributes."""

    __slots__ = ("activations", "calls", "elements", "flops", "macs", "priced")

    def __init__(self) -> None:
        self.calls = self.elements = self.flops = self.macs = self.activations = 0
        self.priced = True

    def add(self, plan: Plan, macs: int, arith: int, activations: int) -> None:
        """Add a cost."""
        self.flops += FVCORE.flops(plan.operator, plan.family, Cost(macs, arith))
        self.macs += macs
        self.activations += activations

    def numbers(self) -> tuple[int, int, int, bool]:
        """Return FLOPs, MACs, activations, and whether all calls are priced."""
        return self.flops, self.macs, self.activations, self.priced


class _DeferredTelling(_TellingTill):
    """Keeps calls until it is certain that they are to be reported."""

    def __init__(self, tell: Callable[[Call], None], scope: Scope) -> None:
        self._calls: list[Call] = []
        self._tell_later = tell
        super().__init__(self._calls.append, scope, lambda _: True)

    def pay(self) -> None:
        """Report all calls that were kept."""
        for call in self._calls:
            self._tell_later(call)
