"""Copies that a program makes of modules inside a dry run count, and are named, as in a real one."""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from opcount import OpCounter
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return self.norm(self.linear(x)) + self.mean  # type: ignore[no-any-return]


class Copies(nn.Module):
    """Copies a part in each forward, and drops the copy."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return copy.deepcopy(self.part)(x)  # type: ignore[no-any-return]


def copied_in_forward(model: nn.Module) -> None:
    copies = Copies(model)
    for _ in range(3):
        copies(torch.randn(3, 4)).sum().backward()


def copied_before_a_step(model: nn.Module) -> None:
    kept = [copy.deepcopy(model), copy.deepcopy(model)]
    for one in kept:
        one(torch.randn(3, 4)).sum().backward()
    model(torch.randn(3, 4)).sum().backward()


def copied_shallowly(model: nn.Module) -> None:
    for _ in range(2):
        copy.copy(model)(torch.randn(3, 4)).sum().backward()


def averaged(model: nn.Module) -> None:
    average = AveragedModel(model, use_buffers=True)
    for _ in range(2):
        model(torch.randn(3, 4)).sum().backward()
        average.update_parameters(model)
    average(torch.randn(3, 4))


def loaded_from_another(model: nn.Module) -> None:
    other = copy.deepcopy(model)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    other(torch.randn(3, 4)).sum().backward()


@pytest.mark.parametrize(
    "program", [copied_in_forward, copied_before_a_step, copied_shallowly, averaged, loaded_from_another]
)
@pytest.mark.parametrize("make", [Normed, lambda: nn.Sequential(Normed(), nn.Sequential(Normed()))])
def test_copies_count_and_are_named_as_in_a_real_run(
    make: Callable[[], nn.Module], program: Callable[[nn.Module], None]
) -> None:
    assert_same_counts(make, program)


def test_a_copy_dies_when_forward_drops_it() -> None:
    model, alive = Normed(), []
    with OpCounter(model, dry_run=True):
        one = copy.deepcopy(model)
        alive.append(weakref.ref(one))
        one(torch.randn(3, 4))
        alive.append(weakref.ref(one.linear))
        del one
        assert [reference() for reference in alive] == [None, None]


def test_a_copy_that_is_kept_is_put_back() -> None:
    """Its first call finds an empty cache and an attribute; both are as they were then."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cache: dict[str, Tensor] = {}
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.cache["out"] = self.last = x * 2
            self.add_module("late", nn.Linear(2, 2))
            return x

    model = Keeps()
    with OpCounter(dry_run=True):
        copied = copy.deepcopy(model)
        copied(torch.randn(3))
    assert (copied.cache, copied.last, list(copied.children())) == ({}, None, [])


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_result_that_has_a_history_is_not_copied(dry_run: bool) -> None:
    model = nn.Linear(3, 3)
    with OpCounter(model, dry_run=dry_run):
        out = model(torch.ones(2, 3))
        with pytest.raises(RuntimeError, match="deepcopy protocol"):
            copy.deepcopy(out)
        with torch.no_grad():
            assert copy.deepcopy(model(torch.ones(2, 3))).shape == (2, 3)
