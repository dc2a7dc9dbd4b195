"""Control flow by the value of a tensor, where a fake tensor mode runs all branches, and a loop once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

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


def _round(body: Callable[..., Any], *operands: Any) -> Any:
    """Run the body of a loop once; refuse results that are no operands of the next round, as PyTorch does."""
    results = body(*operands)
    for given, result in zip(operands, results, strict=False):
        if not (isinstance(given, Tensor) and isinstance(result, Tensor)):
            continue
        if (given.dtype, given.shape) != (result.dtype, result.shape):
            raise RuntimeError(
                f"while_loop: expected a body that returns tensors like those that it is given, got {result.dtype} of "
                f"{tuple(result.shape)} for {given.dtype} of {tuple(given.shape)}."
            )
    return results


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
    if func.name() == "cond":
        with memo:
            return _branch(*args, **kwargs)
    if func.name() in _LOOPS:
        test, body, *rest = args
        with memo:
            return func.py_kernels[DispatchKey.CompositeExplicitAutograd](test, partial(_round, body), *rest, **kwargs)
    rule = rule_of(func, FakeTensorMode)
    if rule is None:
        return UNKNOWN
    with unset_fake_temporarily():
        return rule(fake, *args, **kwargs)
