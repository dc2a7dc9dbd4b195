"""Higher-order operators: their bodies run under the counter, or they are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch._C import DispatchKey

from opcount.coverage import UNCOUNTED

if TYPE_CHECKING:
    from torch._ops import HigherOrderOperator

    from opcount.interceptor.mode import Interceptor
    from opcount.interceptor.plan import Plan

_DENSE = DispatchKey.CompositeExplicitAutograd


def plan(func: HigherOrderOperator, name: str) -> Plan:
    """Decide how to count a higher-order operator for which there is no formula."""
    from opcount.interceptor.plan import Plan  # noqa: PLC0415  (plan imports this file)

    if func.name() == "cond":
        return Plan(name, UNCOUNTED, handle=_cond)
    return Plan(name, UNCOUNTED, handle=_body if _DENSE in func.py_kernels else _report)


def _cond(mode: Interceptor, _plan: Plan, _func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the branch that is taken; the operator's own kernel asserts that no mode is active."""
    predicate, true_branch, false_branch, *rest = (*args, *kwargs.values())
    operands = rest[0] if rest else ()
    with mode.reentered():
        return (true_branch if bool(predicate) else false_branch)(*operands)


def _body(mode: Interceptor, _plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the dense kernel under the mode; nothing inside means that nothing was computed, or nothing is known."""
    with mode.reentered() as watch:
        out = func.py_kernels[_DENSE](*args, **kwargs)
    if not watch.priced:
        mode.charge(_plan, out, args, kwargs)
    return out


def _report(mode: Interceptor, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out = func(*args, **kwargs)
    mode.charge(plan, out, args, kwargs)
    return out
