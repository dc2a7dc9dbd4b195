"""Control flow by a value: a dry run runs what a real run does, or refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.features import feature, needs

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
"""Warnings of PyTorch's own imports."""

ONE = 6 * 4 * 4
"""MACs of one product of ``(6, 4)`` and ``(4, 4)``."""


def once(x: Any, w: Any) -> tuple[Any]:
    return (x @ w,)


def twice(x: Any, w: Any) -> tuple[Any]:
    return ((x @ w).sin() @ w,)


def choice(test: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda x, w: torch.cond(test(x), once, twice, (x, w))[0]


def choice_in_choice(x: Any, w: Any) -> Any:
    inner = choice(lambda _: torch.tensor(False))
    return torch.cond(torch.tensor(True), lambda x, w: (inner(x, w),), once, (x, w))[0]


def rounds(count: int) -> Callable[..., Any]:
    def turn(i: Any, x: Any, w: Any) -> tuple[Any, ...]:
        return i + 1, (x @ w).tanh(), w.clone()

    return lambda x, w: feature("torch._higher_order_ops.while_loop.while_loop")(
        lambda i, *_: i < count, turn, (torch.tensor(0), x, w)
    )[1]


COURSES = {
    "the first branch": (choice(lambda _: torch.tensor(True)), ONE),
    "the second branch": (choice(lambda _: torch.tensor([1, 2]).sum() > 5), 2 * ONE),
    "a branch of a branch": (choice_in_choice, 2 * ONE),
    "no round": (rounds(0), 0),
    "three rounds": (rounds(3), 3 * ONE),
}


def count(program: Callable[..., Any], *, dry_run: bool) -> OpCounter:
    with OpCounter(dry_run=dry_run) as outer, OpCounter(dry_run=dry_run) as inner:
        program(torch.randn(6, 4), torch.randn(4, 4))
    assert outer.macs == inner.macs
    return outer


@pytest.mark.parametrize("name", COURSES)
def test_a_course_that_known_values_decide_is_taken(name: str) -> None:
    program, macs = COURSES[name]
    assert count(program, dry_run=False).macs == count(program, dry_run=True).macs == macs


def test_a_course_that_unknown_values_decide_is_refused() -> None:
    with pytest.raises(DryRunError):
        count(choice(lambda x: x.sum() > 0), dry_run=True)


@needs("gradients of a cond that fake tensors can follow")
def test_gradients_of_a_branch_are_those_of_the_branch_that_is_taken() -> None:
    def program(x: Any, w: Any) -> None:
        choice(lambda _: torch.tensor(True))(x.requires_grad_(), w.requires_grad_()).sum().backward()

    # the product, once more in backward, where PyTorch runs the branch again, and one for each gradient
    assert count(program, dry_run=False).macs == count(program, dry_run=True).macs == 4 * ONE
