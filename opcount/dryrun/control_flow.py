"""Control flow by the value of a tensor, where a fake tensor mode runs all branches, and a loop once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import DispatchKey, HigherOrderOperator
from opcount._torch.fake import FakeTensorMode

if TYPE_CHECKING:
    from collections.abc import Callable


def _branch(chosen: Any, yes: Callable[..., Any], no: Callable[..., Any], operands: Any = ()) -> Any:
    """Run the branch that is taken; a test without a known value is refused."""
    return (yes if chosen else no)(*operands)


def _control_flow() -> dict[Any, Callable[..., Any]]:
    operators = torch.ops.higher_order
    loops = (operators.while_loop, operators.while_loop_stack_output)
    return {operators.cond: _branch} | {loop: loop.py_kernels[DispatchKey.CompositeExplicitAutograd] for loop in loops}


CONTROL_FLOW = _control_flow()
"""Functions that run ``cond`` and ``while_loop`` by the values of real tensors."""


def rule_of(func: Any) -> Callable[..., Any] | None:
    """Return PyTorch's rule for a higher-order operator under `FakeTensorMode`, or None."""
    is_higher_order = isinstance(func, HigherOrderOperator)
    return func.python_key_table.get(FakeTensorMode) if is_higher_order else None
