"""Checks of what a user's formula does and returns."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from torch import SymInt

from opcount.cost import DETAILS, Cost
from opcount.errors import FormulaError
from opcount.interceptor.stack import unwatched

if TYPE_CHECKING:
    from opcount.registry import Pricing


def checked(name: str, price: Pricing) -> Pricing:
    """Return a user's formula, which names the operator when it fails or returns anything but a cost."""

    def price_checked(out: Any, /, *args: Any, **kwargs: Any) -> Cost:
        try:
            with unwatched():
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
        counts = (*cost, cost.bytes_read or 0, cost.bytes_written or 0, cost.repeated, cost.causal)
        return cost if all(type(count) is int and count >= 0 for count in counts) else _in_whole_numbers(name, cost)

    return price_checked


def _in_whole_numbers(name: str, cost: Cost) -> Cost:
    """Return a cost of NumPy's or PyTorch's integers as plain ones; a profile is to be stored and added up."""
    details = {name: getattr(cost, name) for name in DETAILS}
    fields: dict[str, Any] = {**cost._asdict(), **{n: count for n, count in details.items() if count is not None}}
    try:
        counts: dict[str, Any] = {n: c if isinstance(c, SymInt) else index(c) for n, c in fields.items()}
    except TypeError:
        counts = {}
    if not counts or any(type(count) is int and count < 0 for count in counts.values()):
        raise FormulaError(
            f"formula: {name}: expected its formula to count in whole numbers from 0 on, got {cost!r}. "
            f"Round with int(...) or divide with //."
        )
    return Cost(**counts)
