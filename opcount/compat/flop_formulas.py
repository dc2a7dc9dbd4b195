"""Formulas of ``torch.utils.flop_counter``, which return FLOPs, as formulas of opcount, and how both are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils import flop_counter

from opcount._torch.dispatch import HigherOrderOperator
from opcount.convention import TORCH, Convention
from opcount.cost import Cost
from opcount.registry import BUILTIN, target_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opcount.registry import Pricing

_FAMILY = "flop_counter"
"""Family of the operators that such a formula prices."""


def _is_flops(_operator: str, family: str) -> bool:
    return family == _FAMILY


CONVENTION = Convention(TORCH.name, TORCH.summary, TORCH.flops_per_mac, _is_flops)
"""Two FLOPs for each MAC of a contraction, and what the formulas here return as it is."""


def formulas_of(
    registered: Mapping[Any, Callable[..., Any]], custom: Mapping[Any, Callable[..., Any]]
) -> dict[Any, Pricing]:
    """Return formulas for what has one in PyTorch's registry, unless it is PyTorch's own and opcount knows better.

    Args:
        registered: Functions ``(*args, out_val, **kwargs) -> FLOPs``, by packet.
        custom: Those among them that count whoever wrote them.
    """
    return {
        target: _formula(function)
        for target, function in registered.items()
        if target in custom or not _is_known(target, function)
    }


def _is_known(target: Any, function: Callable[..., Any]) -> bool:
    if getattr(function, "__module__", None) != flop_counter.__name__:
        return False
    return isinstance(target, HigherOrderOperator) or bool(BUILTIN.find([target_key(target)]))


def _formula(function: Callable[..., Any]) -> Pricing:
    def price(out: Any, /, *args: Any, **kwargs: Any) -> Cost:
        """Cost by a formula of torch.utils.flop_counter."""
        flops = function(*args, **kwargs, out_val=out)
        return Cost(arith=round(flops) if isinstance(flops, float) else flops)

    price.__module__ = f"torch.utils.{_FAMILY}"  # whose family no formula of ours is of, and not ours when it fails
    return price
