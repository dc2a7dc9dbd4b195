"""Control flow by the value of a tensor, where a fake tensor mode runs all branches, and a loop once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import DispatchKey
from opcount._torch.fake import FakeTensorMode, unset_fake_temporarily
from opcount._torch.higher_order import rule_of
from opcount.dryrun.unknown import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount._torch.dispatch import HigherOrderOperator


_LOOPS = {"while_loop", "while_loop_stack_output"}


def _branch(chosen: Any, yes: Callable[..., Any], no: Callable[..., Any], operands: Any = ()) -> Any:
    """Run the branch that is taken; a test without a known value is refused."""
    return (yes if chosen else no)(*operands)


def run_higher_order(func: HigherOrderOperator, memo: Any, fake: Any, args: Any, kwargs: Any) -> Any:
    """Run ``cond`` or ``while_loop`` by the values that a dry run knows, another operator by PyTorch's rule for fakes.

    Args:
        func: The operator.
        memo: The dispatch mode of the dry run.
        fake: Its fake tensor mode.
        args: Of the call.
        kwargs: Of the call.

    Returns:
        `UNKNOWN` where there is no such rule.
    """
    if func.name() == "cond" or func.name() in _LOOPS:
        with memo:
            run = _branch if func.name() == "cond" else func.py_kernels[DispatchKey.CompositeExplicitAutograd]
            return run(*args, **kwargs)
    rule = rule_of(func, FakeTensorMode)
    if rule is None:
        return UNKNOWN
    with unset_fake_temporarily():
        return rule(fake, *args, **kwargs)
