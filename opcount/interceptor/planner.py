"""The planner: decides at an operator's first call how it is run and priced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import HigherOrderOperator, schema_of
from opcount.coverage import FREE, UNCOUNTED
from opcount.formulas import rule_for
from opcount.formulas.binding import bind
from opcount.formulas.collective import FAMILY as COLLECTIVE
from opcount.interceptor import higher_order, opening
from opcount.interceptor.asking import ASKING, Asking
from opcount.interceptor.collectives import MOVE, CollectiveHandler, Groups
from opcount.interceptor.composites import composites_among, is_composite
from opcount.interceptor.effects import is_blank
from opcount.interceptor.fast_calls import fast_call_of
from opcount.interceptor.fast_paths import handler_of
from opcount.interceptor.formula_checks import checked
from opcount.interceptor.plan import Plan, Unseen
from opcount.registry import BUILTIN, USER, ByClass, Formula, Registry, operator_keys, suits
from opcount.traffic import joint_of, of_any_call, traffic_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.plan import Handler, Mode
    from opcount.traffic import Traffic

_METADATA_NAMESPACES = {"prim", "profiler"}
_METADATA = {
    f"aten.{name}"
    for name in (
        "alias detach detach_ dim is_contiguous is_leaf is_nonzero is_non_overlapping_and_dense is_same_size "
        "is_strides_like_format layout lift lift_fresh lift_fresh_copy numel output_nr requires_grad_ retain_grad "
        "size storage_offset stride sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride _version"
    ).split()
}


_KNOWN: dict[Any, Plan] = {}
"""Plans by opcount's own formulas, for all counts: a count of a small model would spend most of its time on them.

Left out is what depends on the kernels that an operator has: programs may register more.
"""


class Planner:
    """Makes the plans of one count.

    Args:
        overrides: Formulas for this count alone; None in place of one declares an operator free.
        runner_of: Returns what is to be called in place of an operator.
        asks_composites: Whether a user's formula for a composite operator is asked where that arrives whole, and only
            there: below autograd.

    Attributes:
        groups: The process groups of collectives.
        composites: Composite operators for which there is a formula of the user's, to be charged whole everywhere.
    """

    def __init__(
        self,
        overrides: Registry | None = None,
        runner_of: Callable[[Any], Callable[..., Any]] = fast_call_of,
        *,
        asks_composites: bool = False,
    ) -> None:
        self._runner_of = runner_of
        self._asks_composites = asks_composites
        self.registry = USER if overrides is None else overrides
        self.groups = Groups()
        self.composites = [] if asks_composites else composites_among(self.registry.users_targets())
        self._composites: dict[OpOverload, Plan] = {}
        self._modules: dict[type, Plan] = {}
        self._kernels: dict[Any, Plan] = {}

    def plan(self, func: OpOverload | HigherOrderOperator) -> Plan:
        """Decide how to price an operator, and how to run it."""
        plan = self._plan(func)
        return plan if self._runner_of is fast_call_of else replace(plan, run=self._runner_of(func))

    def _plan(self, func: OpOverload | HigherOrderOperator) -> Plan:
        if isinstance(func, HigherOrderOperator):
            name = f"higher_order.{func.name()}"
            own = self._by_formula(name, self.registry.find([name])) or higher_order.plan(func, name)
            return replace(own, func=func, run=fast_call_of(func))
        keys = operator_keys(func)
        formulas = self.registry.find(keys)
        if formulas and formulas is not BUILTIN.find(keys):
            return replace(self._plan_for(func, formulas), func=func, run=fast_call_of(func))
        plan = _KNOWN.get(func)
        if plan is None:
            plan = replace(self._plan_for(func, formulas), func=func, run=fast_call_of(func))
            if func.namespace == "aten" and plan.handle in _LASTING:
                _KNOWN[func] = plan
        return plan

    def _plan_for(self, func: OpOverload, formulas: list[Formula]) -> Plan:
        name, formulas = str(func), [bind(formula, func) for formula in formulas]
        if func.namespace in _METADATA_NAMESPACES or name.rpartition(".")[0] in _METADATA:
            lifts = schema_of(func).name == "aten::lift_fresh"
            return Plan(name, FREE, handle=_LIFT if lifts else _METADATA_QUESTION)
        own = self.backend_plan(func, name, formulas)
        from_user = bool(formulas) and formulas[0].from_user
        handle = own.handle
        if not from_user:
            handle = self._handler_of(func, own) or handle
        calls_others = (from_user and func.namespace != "aten") or name.rpartition(".")[0] in opening.CALLING_PRODUCTS
        if handle is None and calls_others:
            handle = opening.run_with_autocast
        if handle is not own.handle:
            own = replace(own, handle=handle)
        if is_composite(func) and not (self._asks_composites and from_user):
            kind = Asking if name in ASKING else opening.Composite
            return Plan(name, own.family, handle=kind(func, own))
        return own

    def _handler_of(self, func: OpOverload, own: Plan) -> Handler | None:
        """Return what runs an operator that is more than its kernel: a fast path, a collective, a copy of a wrapper."""
        if own.family == COLLECTIVE:
            return CollectiveHandler(func, self.groups)
        return MOVE if func.namespace == "fsdp" else handler_of(own.operator)

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
            plan = self._composites[func] = self._of(str(func), bind(self.registry.find(operator_keys(func))[-1], func))
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
            return replace(self._of(name, formulas[0]), handle=opening.open_up)
        rule = None if formulas else rule_for(func)
        plan = self._by_formula(name, formulas or ([rule] if rule else []))
        if plan is None:
            return Plan(name, UNCOUNTED, handle=opening.open_up, traffic=_traffic_of(name))
        return replace(plan, handle=_ALLOCATE) if is_blank(name) else plan

    def _by_formula(self, name: str, formulas: list[Formula]) -> Plan | None:
        if not formulas:
            return None
        *conditional, last = formulas
        if last.when is None:
            plan = self._of(name, last)
        else:
            conditional, plan = formulas, self._otherwise(name)
        joint = None
        if not any(formula.from_user for formula in formulas) and plan.price is not None and plan.traffic is not None:
            joint = joint_of(plan.price, plan.traffic, conditional=bool(conditional))
        if joint is not None and not conditional:
            return replace(plan, joint=joint)
        usual = plan
        for formula in reversed(conditional):
            special = self._of(name, formula)
            plan = Plan(
                name, plan.family, when=formula.when, special=special, otherwise=plan, traffic=special.traffic,
                joint=joint, usual=usual,
            )  # fmt: skip
        return plan

    def _of(self, name: str, formula: Formula) -> Plan:
        price = None if formula.family == FREE else formula.price
        if formula.from_user:
            price = checked(name, formula.price)
        return Plan(
            name,
            formula.family,
            price,
            text=formula.text,
            traffic=_traffic_of(name),
            from_user=formula.from_user,
        )

    def _otherwise(self, name: str) -> Plan:
        rule = rule_for(_overload(name))
        return self._of(name, rule) if rule else Plan(name, UNCOUNTED, traffic=_traffic_of(name))


def _overload(name: str) -> OpOverload:
    namespace, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)  # type: ignore[no-any-return]


def _traffic_of(name: str) -> Traffic | None:
    """Return what says how many bytes a call reads and writes: an operator's schema, if the name is that of one."""
    try:
        return traffic_of(_overload(name)) if name.count(".") == 2 else of_any_call
    except AttributeError:  # of something else that has such a name
        return of_any_call


class _Lift(Unseen):
    """Runs what makes a tensor of Python's numbers, charges nothing, and lets the mode take note."""

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = super().__call__(mode, plan, func, args, kwargs)
        if mode.origins is not None:
            mode.origins.lifted(out)
        return out


class _Allocate:
    """Runs an operator that leaves memory uninitialised, and lets the mode take note."""

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        keeps = plan.operator in _RESIZING and bool(args[0].numel())
        out = func(*args, **kwargs) if plan.func is None else plan.run(*args, **kwargs)
        mode.charge(plan, out, args, kwargs)
        if mode.origins is not None and not keeps:
            mode.origins.allocated(plan.operator, out)
        return out

    @staticmethod
    def plan_of_finished(plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        return plan.chosen(out, args, kwargs)


_METADATA_QUESTION = Unseen()
_LIFT = _Lift()
_ALLOCATE = _Allocate()
_LASTING = {None, _METADATA_QUESTION, _LIFT, _ALLOCATE}
_RESIZING = {"aten.resize_.default", "aten.resize_as_.default"}
