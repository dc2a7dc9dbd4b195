"""Higher-order operators that choose by the value of a tensor: fake tensor modes run all branches, and a loop once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import DispatchKey, HigherOrderOperator
from opcount._torch.fake import FakeTensorMode

if TYPE_CHECKING:
    from collections.abc import Callable


def _branch(chosen: Any, yes: Callable[..., Any], no: Callable[..., Any], operands: Any = ()) -> Any:
    """Return the branch that is taken. Its test is refused where the value is not known."""
    return (yes if chosen else no)(*operands)


def _courses() -> dict[Any, Callable[..., Any]]:
    operators = torch.ops.higher_order
    loops = (operators.while_loop, operators.while_loop_stack_output)
    return {operators.cond: _branch} | {loop: loop.py_kernels[DispatchKey.CompositeExplicitAutograd] for loop in loops}


COURSES = _courses()
"""Functions that run them as real tensors would."""


def rule_of(func: Any) -> Callable[..., Any] | None:
    """Return PyTorch's rule for a higher-order operator on fake tensors, found by the class of the mode alone."""
    is_higher_order = isinstance(func, HigherOrderOperator)
    return func.python_key_table.get(FakeTensorMode) if is_higher_order else None
