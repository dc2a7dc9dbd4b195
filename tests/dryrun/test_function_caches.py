"""No fake tensor stays in functions, classes or globals after a dry run."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable

_BY_SIZE: dict[int, Tensor] = {}
_LIST: list[Tensor] = []
_ONCE: Tensor | None = None
RESULTS: dict[str, Tensor] = {}


@functools.lru_cache
def bounded(size: int) -> Tensor:
    return torch.linspace(0, 1, size)


@functools.cache
def unbounded(size: int) -> tuple[Tensor, Tensor]:
    return torch.linspace(0, 1, size), torch.rand(size)


def wrapped_cache() -> Callable[[int], Tensor]:
    cached = functools.lru_cache(4)(lambda size: torch.linspace(0, 1, size))

    def wrapper(size: int) -> Tensor:
        return cached(size)

    return wrapper


behind_a_wrapper = wrapped_cache()


def in_a_global_dict(size: int) -> Tensor:
    if size not in _BY_SIZE:
        _BY_SIZE[size] = torch.linspace(0, 1, size)
    return _BY_SIZE[size]


def in_a_global_list(size: int) -> Tensor:
    if not _LIST:
        _LIST.append(torch.linspace(0, 1, size))
    return _LIST[0]


def in_a_global(size: int) -> Tensor:
    global _ONCE  # noqa: PLW0603
    if _ONCE is None:
        _ONCE = torch.linspace(0, 1, size)
    return _ONCE


class Keeps(nn.Module):
    """Keeps what it has made once in every place outside of itself."""

    of_the_class: ClassVar[dict[int, Tensor]] = {}
    at_first: ClassVar[Tensor | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.own = functools.lru_cache(2)(lambda size: torch.linspace(0, 1, size))

    @functools.lru_cache(2)  # noqa: B019
    def method(self, size: int) -> Tensor:
        return torch.linspace(0, 1, size)

    def kept(self, size: int) -> list[Tensor]:
        cls = type(self)
        if cls.at_first is None:
            cls.at_first = torch.linspace(0, 1, size)
        if not hasattr(cls, "later"):
            cls.later = torch.linspace(0, 1, size)
        if size not in cls.of_the_class:
            cls.of_the_class[size] = torch.linspace(0, 1, size)
        functions = [bounded, behind_a_wrapper, in_a_global_dict, in_a_global_list, in_a_global, self.own, self.method]
        return [*(f(size) for f in functions), unbounded(size)[0], cls.at_first, cls.later, cls.of_the_class[size]]

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.stack(self.kept(4)).sum(0)


def test_real_runs_after_a_dry_run_get_real_tensors_from_caches() -> None:
    model, x = Keeps(), torch.randn(2, 4)
    before = bounded(3)
    for _ in range(2):
        with OpCounter(model, dry_run=True) as c:
            model(x)
        assert c.macs == 2 * 4 * 4
    assert (_ONCE, _BY_SIZE, _LIST, Keeps.at_first, Keeps.of_the_class, hasattr(Keeps, "later")) == (
        None, {}, [], None, {}, False,
    )  # fmt: skip
    assert {type(tensor) for tensor in model.kept(4)} == {Tensor}
    assert torch.equal(model.kept(4)[0], torch.linspace(0, 1, 4))
    assert type(bounded(3)) is type(before) is Tensor


def test_what_was_kept_before_a_dry_run_stays() -> None:
    model, x = Keeps(), torch.randn(2, 4)
    model(x)
    kept = model.kept(4)
    with OpCounter(model, dry_run=True):
        model(x)
    assert all(now is before for now, before in zip(model.kept(4), kept, strict=True))


def test_variables_of_the_program_hold_what_it_put_there() -> None:
    model, x = nn.Linear(4, 4), torch.randn(2, 4)
    with OpCounter(model, dry_run=True):
        RESULTS["out"] = model(x)
    assert RESULTS.pop("out").shape == (2, 4)


@pytest.mark.parametrize("size", [2, 3])
def test_caches_that_hold_nothing_fake_are_left_alone(size: int) -> None:
    bounded.cache_clear()
    first, model = bounded(size), nn.Linear(4, 4)
    with OpCounter(model, dry_run=True):
        model(torch.randn(2, 4))
    assert bounded(size) is first
