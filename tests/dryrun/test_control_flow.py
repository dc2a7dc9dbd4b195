"""Control flow by a value: a dry run runs what a real run does, or refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.features import feature, needs, require

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


class Bodies(torch.nn.Module):
    """A module that calls modules inside of the bodies of an operator.

    Args:
        run: ``(layer, x)`` that calls the operator.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run
        self.layer = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Any) -> Any:
        return self.layer(self.run(self.layer, x))


def scanned(layer: Any, x: Any) -> Any:
    scan = feature("torch._higher_order_ops.scan.scan")
    return scan(lambda carry, row: (layer(carry + row), row.clone()), x[0], x)[0]


INSIDE = {
    "cond": lambda layer, x: torch.cond(torch.tensor(True), lambda x: (layer(x),), lambda x: (x.sin(),), (x,))[0],
    "cond in cond": lambda layer, x: torch.cond(
        torch.tensor(True), lambda x: (INSIDE["cond"](layer, x),), lambda x: (x.sin(),), (x,)
    )[0],
    "while_loop": lambda layer, x: feature("torch._higher_order_ops.while_loop.while_loop")(
        lambda i, _: i < 3, lambda i, x: (i + 1, layer(x)), (torch.tensor(0), x)
    )[1],
    "map": lambda layer, x: feature("torch._higher_order_ops.map.map")(lambda row: layer(row), x),  # noqa: PLW0108
    "scan": scanned,
}


@pytest.mark.parametrize("name", INSIDE)
def test_what_modules_inside_a_body_run_is_charged_to_the_same_module_as_in_a_real_run(name: str) -> None:
    if name == "map":
        require("a map that runs its body in a dry run")
    if name == "scan":
        require("a scan that tries its body in the operator alone")
    found = []
    for dry_run in (False, True):
        model = Bodies(INSIDE[name])
        with OpCounter(model, dry_run=dry_run) as outer, OpCounter(model, dry_run=dry_run) as inner:
            model(torch.randn(6, 4))
        costs = [{path: (t.macs, t.arith) for path, t in c.by_module().items()} for c in (outer, inner)]
        calls = [{path: module.calls for path, module in c.profile.modules.items()} for c in (outer, inner)]
        found += [*zip(costs, calls, strict=True)]
    assert all(each == found[0] for each in found)
    assert found[0][1]["layer"] == 1  # the call outside of the operator


@pytest.mark.parametrize("turn", [lambda i, x: (i + 1, x.double()), lambda i, x: (i + 1, torch.cat([x, x]))])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_loop_whose_body_returns_another_kind_of_tensor_is_refused(dry_run, turn):
    if not dry_run:
        require("a while_loop that compares what its body returns")
    loop = feature("torch._higher_order_ops.while_loop.while_loop")
    with OpCounter(dry_run=dry_run), pytest.raises(RuntimeError, match=r"(?i)while_loop"):
        loop(lambda i, _: i < 2, turn, (torch.tensor(0), torch.ones(3)))
