"""Fake tensors that a program made before a dry run count as tensors of their sizes, if these are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS: dict[str, Callable[[Any, Tensor], object]] = {
    "a module": lambda model, x: model(x),
    "a sum": lambda _, x: x + 1,
    "a view": lambda _, x: x.view(-1).exp(),
    "a backward": lambda model, x: model(x).sum().backward(),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_fake_tensor_of_the_programs_counts_as_a_real_one_and_stays_what_it_is(
    program: Callable[[Any, Tensor], object],
) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    x = FakeTensorMode().from_tensor(torch.randn(3, 4))
    with OpCounter(model) as real:
        program(model, torch.randn(3, 4))
    model.zero_grad()
    with OpCounter(model, dry_run=True) as dry:
        program(model, x)
    assert (dry.macs, dry.arith) == (real.macs, real.arith)
    assert type(x) is FakeTensor


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_symbolic_sizes_are_refused_by_operator(program: Callable[[Any, Tensor], object]) -> None:
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.randn(3, 4), static_shapes=False)
    model = nn.Linear(4, 5)
    with pytest.raises(DryRunError, match="symbolic sizes") as caught, OpCounter(model, dry_run=True):
        program(model, x)
    assert caught.value.operator
    assert type(x) is FakeTensor
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())
