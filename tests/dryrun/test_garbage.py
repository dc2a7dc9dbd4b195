"""Memory of a dry run is freed when it ends: nothing waits for Python's collector of cycles, which takes time."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.errors import DryRunError
from opcount.scope import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Turn the collector off, after a first run, in which PyTorch fills caches of its own."""
    with OpCounter(dry_run=True):
        nn.Linear(3, 3)(torch.ones(2, 3))
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_the_tensors_that_stood_for_weights_are_freed_with_the_dry_run() -> None:
    model = nn.Linear(3, 3, device="meta")
    with OpCounter(model, dry_run=True):
        model(torch.ones(2, 3))
        stand_in = weakref.ref(model.weight)
    assert stand_in() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("dry", [False, True])
def test_the_tallies_of_modules_are_freed_with_the_counter(dry: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU()))
    others = _frames()
    with OpCounter(model, dry_run=dry) as c:
        model(torch.ones(2, 3))
    assert {frame.path for key, frame in _frames().items() if key not in others} == {"0", "1", "1.0"}
    del c
    assert _frames().keys() <= others.keys()


def _frames() -> dict[int, Frame]:
    """Return all frames of modules below the root that are alive, by their ids."""
    return {id(each): each for each in gc.get_objects() if type(each) is Frame and each.path}


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize(
    "fail",
    [
        lambda layer, x: nn.Softmax(dim=99)(layer(x)),
        lambda layer, x: layer(x) @ x,
        lambda layer, x: torch.complex(layer(x).bfloat16(), x.bfloat16()),
    ],
)
def test_an_error_that_the_program_catches_keeps_nothing_of_it(fail: Callable[..., object], dry: bool) -> None:
    def program() -> weakref.ref[nn.Module]:
        layer = nn.Linear(3, 3)
        with pytest.raises((RuntimeError, IndexError)):
            fail(layer, torch.randn(2, 3))
        return weakref.ref(layer)

    with OpCounter(dry_run=dry):
        assert program()() is None


@pytest.mark.usefixtures("no_collector")
def test_a_refusal_that_is_raised_on_leaving_keeps_nothing_of_the_program() -> None:
    def program(model: nn.Module) -> None:
        with OpCounter(model, dry_run=True):
            y = model(torch.randn(2, 3))
            with suppress(RuntimeError):
                y.sum().detach().numpy()

    model = nn.Linear(3, 3)
    with pytest.raises(DryRunError):
        program(model)
    known = weakref.ref(model)
    del model
    assert known() is None
