"""How one operator is priced: decided at its first call, remembered for the count."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import HigherOrderOperator, schema_of
from opcount.cost import Cost
from opcount.coverage import FREE, UNCOUNTED
from opcount.errors import FormulaError
from opcount.formulas import rule_for
from opcount.interceptor import higher_order, opening
from opcount.interceptor.asking import ASKING, Asking
from opcount.interceptor.composites import composites_among, is_composite
from opcount.interceptor.effects import is_blank
from opcount.interceptor.fast_calls import fast_call_of
from opcount.interceptor.fast_paths import handler_of
from opcount.registry import BUILTIN, USER, ByClass, Formula, Registry, operator_keys, suits

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.answers import Answers
    from opcount.interceptor.mode import Interceptor
    from opcount.interceptor.recorder import Recorded
    from opcount.registry import Pricing
    from opcount.undo import Undo

    Handler = Callable[["Interceptor", "Plan", Any, tuple[Any, ...], dict[str, Any]], Any]

_METADATA_NAMESPACES = {"prim", "profiler"}
_METADATA = {
    f"aten.{name}"
    for name in (
        "alias detach detach_ dim is_contiguous is_leaf is_nonzero is_non_overlapping_and_dense is_same_size "
        "is_strides_like_format layout lift lift_fresh lift_fresh_copy numel output_nr requires_grad_ retain_grad "
        "size storage_offset stride sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride _version"
    ).split()
}


_CALLING_PRODUCTS = {"aten._trilinear"}
"""Operators of PyTorch whose kernels call products through the dispatcher, without being composite.

``linalg_pinv`` is left out: ``pinverse`` keeps autocast from it, and calls cannot be told apart.
"""

_KNOWN: dict[Any, Plan] = {}
"""Plans by opcount's own formulas, for all counts: a count of a small model would spend most of its time on them.

Left out is what depends on the kernels that an operator has: programs may register more.
"""


def _not_set(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("the plan is not one that the interceptor decided on")


class Plan:
    """What to do with one operator.

    Attributes:
        operator: The overload's name, ``"aten.mm.default"``.
        family: What records of it bear.
        price: The formula; None: nothing is known to be computed.
        when: A condition: calls that meet it are priced by the plan ``special``, others by ``otherwise``.
        handle: Does the call, where a plain one and then the price are not all there is to do.
        func: The operator that it was made for, so that its ``id`` stays its own.
        run: What runs it.
        text: The formula's mathematics.
        writes: Whether outputs are memory of their own, and not views.
        from_user: Whether the formula is not opcount's own, so that its failure is an error.
    """

    __slots__ = (
        "family", "from_user", "func", "handle", "operator", "otherwise", "price", "run", "special", "text",
        "when", "writes",
    )  # fmt: skip

    def __init__(
        self,
        operator: str,
        family: str,
        price: Pricing | None = None,
        handle: Handler | None = None,
        text: str = "",
    ) -> None:
        self.operator = operator
        self.family = family
        self.price = price
        self.handle = handle
        self.text = text
        self.when: Callable[..., bool] | None = None
        self.special = self.otherwise = self
        self.func: Any = None
        self.run: Callable[..., Any] = _not_set
        self.writes = True
        self.from_user = False

    def run_by(self, run: Callable[..., Any]) -> Plan:
        """Return the same plan with another runner."""
        plan = Plan(self.operator, self.family, self.price, self.handle, self.text)
        plan.when, plan.special, plan.otherwise = self.when, self.special, self.otherwise
        plan.func, plan.run, plan.writes, plan.from_user = self.func, run, self.writes, self.from_user
        return plan

    def chosen(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Plan:
        """Return the plan whose condition a call meets."""
        plan = self
        while plan.when is not None:
            plan = plan.special if plan.when(out, *args, **kwargs or {}) else plan.otherwise
        return plan

    def priced(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Plan, Cost]:
        """Return the plan whose condition a call meets, and what its formula says; one of ours that fails names it."""
        try:
            plan = self.chosen(out, args, kwargs)
            return plan, Cost() if plan.price is None else plan.price(out, *args, **kwargs)
        except Exception:
            if self.from_user:
                raise
            return Plan(self.operator, UNCOUNTED), Cost()

    def settled(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan that charges a call that has run already; None for a question about metadata."""
        settle = getattr(self.handle, "settled", None)
        return self.chosen(out, args, kwargs) if settle is None else settle(out, args, kwargs)


class Planner:
    """Makes the plans of one count.

    Args:
        overrides: Formulas for this count alone; None in place of one declares an operator free.
        answers: May know what operators return; None: they run.
        asks_composites: Whether a user's formula for a composite operator is asked where that arrives whole, and only
            there: below autograd.

    Attributes:
        composites: Composite operators for which there is a formula of the user's, to be charged whole everywhere.
        recorded: What computations on meta tensors were charged.
    """

    def __init__(
        self, overrides: Registry | None = None, answers: Answers | None = None, *, asks_composites: bool = False
    ) -> None:
        self._answers = answers
        self._asks_composites = asks_composites
        self.is_dry = answers is not None
        self.registry = USER if overrides is None else overrides
        self.composites = [] if asks_composites else composites_among(self.registry.users_targets())
        self._composites: dict[OpOverload, Plan] = {}
        self._modules: dict[type, Plan] = {}
        self._kernels: dict[Any, Plan] = {}
        self.recorded: dict[object, Recorded] = {}

    def join(self, undo: Undo) -> None:
        """Let this thread be answered, too, until the steps have run."""
        if self._answers is not None:
            self._answers.join(undo)

    def plan(self, func: OpOverload | HigherOrderOperator) -> Plan:
        """Decide how to price an operator, and how to run it."""
        plan = self._plan(func)
        if plan.func is None:
            plan.func, plan.run = func, fast_call_of(func)
        return plan if self._answers is None else plan.run_by(self._answers.runner(func))

    def _plan(self, func: OpOverload | HigherOrderOperator) -> Plan:
        if isinstance(func, HigherOrderOperator):
            name = f"higher_order.{func.name()}"
            return self._by_formula(name, self.registry.find([name])) or higher_order.plan(func, name)
        keys = operator_keys(func)
        formulas = self.registry.find(keys)
        if formulas and formulas is not BUILTIN.find(keys):
            return self._plan_for(func, formulas)
        plan = _KNOWN.get(func)
        if plan is None:
            plan = self._plan_for(func, formulas)
            if func.namespace == "aten" and plan.handle in _LASTING:
                _KNOWN[func] = plan
        return plan

    def _plan_for(self, func: OpOverload, formulas: list[Formula]) -> Plan:
        name = str(func)
        if func.namespace in _METADATA_NAMESPACES or name.rpartition(".")[0] in _METADATA:
            lifts = schema_of(func).name == "aten::lift_fresh"
            return Plan(name, FREE, handle=_LIFT if lifts else _METADATA_QUESTION)
        own = self.backend_plan(func, name, formulas)
        if not (formulas and formulas[0].from_user):
            own.handle = handler_of(name) or own.handle
        from_user = bool(formulas) and formulas[0].from_user and func.namespace != "aten"
        if own.handle is None and (from_user or name.rpartition(".")[0] in _CALLING_PRODUCTS):
            own.handle = opening.run_with_autocast
        if is_composite(func) and not (self._asks_composites and formulas and formulas[0].from_user):
            kind = Asking if name in ASKING else opening.Composite
            return Plan(name, own.family, handle=kind(func, own))
        return own

    def priced_modules(self) -> set[type]:
        """Return the module classes that are priced as a whole."""
        return self.registry.modules()

    def module_plan(self, kind: type) -> Plan:
        """Return the plan of a module class that is priced as a whole."""
        plan = self._modules.get(kind)
        if plan is None:
            plan = self._modules[kind] = self._of(f"module.{kind.__name__}", self.registry.find([kind])[0])
        return plan

    def composite_plan(self, func: OpOverload) -> Plan | None:
        """Return the plan of a composite operator that is charged whole; None if it is charged by its parts."""
        plan = self._composites.get(func)
        if plan is None and func in self.composites:
            plan = self._composites[func] = self._of(str(func), self.registry.find(operator_keys(func))[-1])
        return plan

    def kernel_plan(self, kernel: Any) -> Plan:
        """Return the plan of a Triton kernel."""
        plan = self._kernels.get(kernel)
        if plan is None:
            name = f"triton.{getattr(getattr(kernel, 'fn', kernel), '__name__', 'kernel')}"
            plan = self._by_formula(name, self.registry.find([kernel])) or Plan(name, UNCOUNTED)
            self._kernels[kernel] = plan
        return plan

    def function_plan(self, function: type, name: str) -> Plan | None:
        """Return the plan of an ``autograd.Function``, or of its backward; None if there is no formula for it."""
        formulas = self.registry.find([function, name])
        if not formulas:
            return None
        formula = formulas[-1]
        if not (formula.from_user or suits(formula.price, function)):
            return None
        if isinstance(formula.price, ByClass):
            formula = formula._replace(price=formula.price.of(function))
        return self._of(name, formula)

    def backend_plan(self, func: OpOverload, name: str, formulas: list[Formula]) -> Plan:
        """Decide for a device that has a kernel of its own."""
        if formulas and formulas[0].sealed:
            whole = self._of(name, formulas[0])
            whole.handle = opening.open_up
            return whole
        rule = None if formulas else rule_for(func)
        plan = self._by_formula(name, formulas or ([rule] if rule else []))
        if plan is not None and is_blank(name):
            plan.handle = _ALLOCATE
        return plan or Plan(name, UNCOUNTED, handle=opening.open_up)

    def _by_formula(self, name: str, formulas: list[Formula]) -> Plan | None:
        if not formulas:
            return None
        *conditional, last = formulas
        if last.when is None:
            plan = self._of(name, last)
        else:
            conditional, plan = formulas, self._otherwise(name)
        for formula in reversed(conditional):
            choice = Plan(name, plan.family)
            choice.when, choice.special, choice.otherwise = formula.when, self._of(name, formula), plan
            plan = choice
        return plan

    def _of(self, name: str, formula: Formula) -> Plan:
        price = None if formula.family == FREE else formula.price
        if formula.from_user:
            price = _checked(name, formula.price)
        plan = Plan(name, formula.family, price, text=formula.text)
        plan.from_user = formula.from_user
        plan.writes = not _is_view(name)
        return plan

    def _otherwise(self, name: str) -> Plan:
        rule = rule_for(_overload(name))
        return self._of(name, rule) if rule else Plan(name, UNCOUNTED)


def _checked(name: str, price: Pricing) -> Pricing:
    """Return a user's formula, which names the operator when it fails or returns anything but a cost."""

    def checked(out: Any, /, *args: Any, **kwargs: Any) -> Cost:
        try:
            cost = price(out, *args, **kwargs)
        except Exception as error:
            raise FormulaError(
                f"formula: {name}: its formula failed with {type(error).__name__}: {error}. "
                f"A formula takes (out, *args, **kwargs) of the operator and returns an opcount.Cost."
            ) from error
        if not isinstance(cost, Cost):
            raise FormulaError(
                f"formula: {name}: expected its formula to return an opcount.Cost, got {cost!r} of type "
                f"{type(cost).__name__}. Return Cost(macs=..., arith=..., activations=...)."
            )
        return cost if all(type(count) is int and count >= 0 for count in cost) else _in_whole_numbers(name, cost)

    return checked


def _in_whole_numbers(name: str, cost: Cost) -> Cost:
    """Return a cost of NumPy's or PyTorch's integers as plain ones; a profile is to be stored and added up."""
    try:
        counts = [count if isinstance(count, torch.SymInt) else index(count) for count in cost]
    except TypeError:
        counts = []
    if not counts or any(type(count) is int and count < 0 for count in counts):
        raise FormulaError(
            f"formula: {name}: expected its formula to count in whole numbers from 0 on, got {cost!r}. "
            f"Round with int(...) or divide with //."
        )
    return Cost(*counts)


def _overload(name: str) -> OpOverload:
    namespace, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)  # type: ignore[no-any-return]


def _is_view(name: str) -> bool:
    """Tell whether the operator's output is its input's memory, unwritten."""
    if not name.startswith("aten.") or name.count(".") != 2:
        return False
    returns = schema_of(_overload(name)).returns
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


class PassThrough(dict[Any, Plan]):
    """Plans of a paused counter."""

    def __missing__(self, _key: Any) -> Plan:
        """Return the plan that charges nothing, for every operator."""
        return _PASS


class _Unseen:
    """Runs an operator and charges nothing."""

    def __call__(self, _: Interceptor, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del func
        return plan.run(*args, **kwargs)

    def settled(self, _out: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        """Charge nothing."""


class _Paused(_Unseen):
    """Does so for all operators."""

    def __call__(self, _: Interceptor, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del plan
        return func(*args, **kwargs)


class _Lift(_Unseen):
    """Does so for what makes a tensor of Python's numbers, and lets the mode take note."""

    def __call__(self, mode: Interceptor, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = super().__call__(mode, plan, func, args, kwargs)
        if mode.origins is not None:
            mode.origins.lifted(out)
        return out


class _Allocate:
    """Runs an operator that leaves memory uninitialised, and lets the mode take note."""

    def __call__(self, mode: Interceptor, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        keeps = plan.operator in _RESIZING and bool(args[0].numel())
        out = func(*args, **kwargs) if plan.func is None else plan.run(*args, **kwargs)
        mode.charge(plan, out, args, kwargs)
        if mode.origins is not None and not keeps:
            mode.origins.allocated(mode.root, plan.operator, out)
        return out


_METADATA_QUESTION = _Unseen()
_LIFT = _Lift()
_ALLOCATE = _Allocate()
_LASTING = {None, _METADATA_QUESTION, _LIFT, _ALLOCATE}
_RESIZING = {"aten.resize_.default", "aten.resize_as_.default"}
_PASS = Plan("", FREE, handle=_Paused())
