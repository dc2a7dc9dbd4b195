"""Modules that are made or copied inside a dry run are cast as real ones, also when they have run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.ones(3, 4)


class Casts(nn.Module):
    """Casts its part in each forward."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.part.double()(x.double()).float()  # type: ignore[no-any-return]


def casts_itself(part: nn.Module) -> None:
    for model in (copy.deepcopy(part), Casts()):
        model(X).sum().backward()


def after_a_backward(part: nn.Module) -> None:
    for model in (copy.deepcopy(part), nn.Linear(4, 4)):
        model(X).sum().backward()
        model.double()
        assert model.weight.grad.dtype == torch.float64  # type: ignore[union-attr]
        model(X.double()).sum().backward()


def between_forward_and_backward(part: nn.Module) -> None:
    for model in (copy.deepcopy(part), nn.Linear(4, 4)):
        optimizer, out = torch.optim.SGD(model.parameters(), 0.1), model(X)
        model.half().float()
        out.sum().backward()
        optimizer.step()


def tied(part: nn.Module) -> None:
    one, other = copy.deepcopy(part), nn.Linear(4, 4)
    other.weight = one.weight  # type: ignore[assignment]
    one(X)
    one.double()
    assert other.weight.dtype == torch.float64
    one(X.double())


def of_many_weights(part: nn.Module) -> None:
    for model in (nn.LSTM(4, 4), nn.Sequential(nn.BatchNorm1d(4), copy.deepcopy(part))):
        model(X)
        model.double()(X.double())


@pytest.mark.parametrize(
    ("make", "program"),
    [
        (Casts, casts_itself),
        *(
            (lambda: nn.Linear(4, 4), program)
            for program in (after_a_backward, between_forward_and_backward, tied, of_many_weights)
        ),
    ],
)
def test_a_module_of_the_dry_run_is_cast(make: Callable[[], nn.Module], program: Callable[[nn.Module], None]) -> None:
    assert_same_counts(make, program)
