"""Ranges of results: a program may ask in a dry run whether probabilities lie between 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable

RANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(-1),
    "bfloat16": lambda x: x.softmax(-1).bfloat16(),
    "hardsigmoid": nn.functional.hardsigmoid,
    "clamp": lambda x: x.clamp(1e-6, 1 - 1e-6),
    "clamp of one side": lambda x: x.sigmoid().clamp(min=1e-6),
    "clamp beyond": lambda x: x.sigmoid().clamp(-3),
    "views": lambda x: x.softmax(-1)[:, 1:].t().reshape(-1).detach(),
    "copies": lambda x: torch.stack([torch.cat([x.sigmoid(), x.softmax(0)]).clone()] * 2),
    "elements": lambda x: x.sigmoid()[torch.tensor([1, 0])].amax(0),
}


def by_all(x: Tensor) -> bool:
    return bool(torch.all((x >= 0) * (x <= 1)))


def by_extremes(x: Tensor) -> bool:
    return not (x.min() < 0 or x.max() > 1)


def by_any(x: Tensor) -> bool:
    return not ((x < 0) | (x > 1)).any().item()


def by_more(x: Tensor) -> bool:
    return by_all(x) and not bool((x < -0.5).any()) and bool((x < 2).all())


@pytest.mark.parametrize("ask", [by_all, by_extremes, by_any, by_more])
@pytest.mark.parametrize("name", RANGED)
def test_a_program_asks_for_the_range_of_a_result(name: str, ask: Callable[[Tensor], bool]) -> None:
    x = torch.randn(3, 4)

    def program(model: nn.Module) -> None:
        for _ in range(2):  # the second time from memory
            out = RANGED[name](model(x))
            if not ask(out):
                out = torch.sigmoid(out)
            model(x * out.sum())

    assert_same_counts(lambda: nn.Linear(4, 4), program)


def written(x: Tensor) -> Tensor:
    out = x.sigmoid()
    out[0] = x[0]
    return out


def written_by_a_view(x: Tensor) -> Tensor:
    out = torch.cat([x] * 600).sigmoid()  # more elements than values are kept of
    out.view(-1).mul_(3)
    return out


def written_by_an_argument(x: Tensor) -> Tensor:
    out = x.sigmoid()
    torch.mul(x.detach(), 2, out=out.detach())
    return out


def drawn_into(x: Tensor) -> Tensor:
    return x.sigmoid().normal_()


def beside_others(x: Tensor) -> Tensor:
    return torch.cat([x.sigmoid(), x])


def read_as_integers(x: Tensor) -> Tensor:
    return x.sigmoid().view(torch.int32)


def clamped_by_a_result(x: Tensor) -> Tensor:
    return x.clamp(max=x.sum().item(), min=0)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x, lambda x: x.tanh(), lambda x: x.sigmoid() * 3, written, written_by_a_view, written_by_an_argument,
        drawn_into, beside_others, read_as_integers, clamped_by_a_result, lambda x: x.clamp(0.5, 1.5),
        lambda x: x.clamp(min=0),
    ],
)  # fmt: skip
def test_what_may_lie_outside_is_refused(compute: Callable[[Tensor], Tensor]) -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(DryRunError), OpCounter(model, dry_run=True):
        by_all(compute(model(torch.randn(3, 4))))


@pytest.mark.parametrize("number", [0.5, 1, 1e-30, 1 - 1e-12, 1 + 1e-12])
def test_a_number_inside_of_the_range_or_next_to_it_in_its_dtype_is_refused(number: float) -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(DryRunError), OpCounter(model, dry_run=True):
        bool((model(torch.randn(3, 4)).sigmoid() < number).all())
