"""A small counter for tests of formulas: sums the costs of the operators that a dispatch mode sees."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from opcount.cost import Cost
from opcount.formulas import rule_for
from opcount.formulas.binding import bind
from opcount.registry import BUILTIN, Formula, operator_keys


class Seen(TorchDispatchMode):
    """Prices each operator by its formula, else by its rule.

    Attributes:
        total: The sum of all costs.
        costs: The cost of each operator, by name.
        families: The family that each operator was priced by; None for an undecided one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = Cost()
        self.costs: dict[str, Cost] = {}
        self.calls: Counter[str] = Counter()
        self.families: dict[str, str | None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = decide(func, out, args, kwargs)
        name = str(func)
        self.calls[name] += 1
        self.families[name] = formula.family if formula else None
        if formula is not None:
            cost = formula.price(out, *args, **kwargs)
            self.total += cost
            self.costs[name] = self.costs.get(name, Cost()) + cost
        return out


def decide(func: Any, out: Any, args: Any, kwargs: Any) -> Formula | None:
    """Return what prices one call."""
    for formula in (bind(formula, func) for formula in BUILTIN.find(operator_keys(func))):
        if formula.when is None or formula.when(out, *args, **kwargs):
            return formula
    return rule_for(func)


def seen(function: Any, *args: Any, **kwargs: Any) -> Seen:
    """Run a function under `Seen`."""
    with Seen() as mode:
        function(*args, **kwargs)
    return mode


def cost_of(func: Any, *args: Any, **kwargs: Any) -> Cost:
    """Run one operator and return its cost."""
    out = func(*args, **kwargs)
    formula = decide(func, out, args, kwargs)
    assert formula is not None, func
    return formula.price(out, *args, **kwargs)


def arith(function: Any, *args: Any, **kwargs: Any) -> int:
    """Run a function and return its arithmetic operations."""
    return seen(function, *args, **kwargs).total.arith
