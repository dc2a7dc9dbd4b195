"""Global caches keep nothing of a dry run for the next real run, whatever object holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE: dict[str, Any] = {}

INDICES = torch.tensor([[0, 1], [1, 0]])


def cached(value: Tensor) -> Tensor:
    return CACHE.setdefault("made", value * 2)  # type: ignore[no-any-return]


MAKE: dict[str, Callable[[Tensor], Any]] = {
    "a tensor": lambda x: x * 2,
    "inside of a gradient": torch.func.grad(lambda y: (cached(y) * y).sum()),
    "inside of a map": torch.func.vmap(lambda y: cached(y) * y),
    "inside of both": torch.func.vmap(torch.func.grad(lambda y: (cached(y) * y).sum())),
    "a sparse tensor": lambda x: torch.sparse_coo_tensor(INDICES, x[0, :2], (4, 4)),
    "a compressed one": lambda x: torch.sparse_csr_tensor(INDICES[0], INDICES[0, :1], x[0, :1].detach(), (1, 4)),
    "an optimizer": lambda _: torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1),
    "a distribution": lambda x: torch.distributions.Normal(x, 1.0),
    "a packed sequence": lambda x: nn.utils.rnn.pack_padded_sequence(x[None], [2], batch_first=True),
    "an attribute of a parameter": lambda x: with_attribute(nn.Parameter(torch.ones(2)), x * 2),
}


def with_attribute(parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
    parameter.cache = value  # type: ignore[attr-defined]
    return parameter


class Caches(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make, self.linear = make, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        CACHE.setdefault("made", self.make(self.linear(x)))
        return x


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("given", [True, False])
def test_a_global_cache_keeps_nothing_of_a_dry_run(name: str, given: bool) -> None:
    CACHE.clear()
    model = Caches(MAKE[name])
    with OpCounter(model if given else None, dry_run=True):
        model(torch.ones(2, 4))
    assert not CACHE


@pytest.mark.filterwarnings("ignore:Sparse")
def test_what_has_its_values_is_kept() -> None:
    CACHE.clear()
    graph = torch.eye(2).to_sparse()
    model = Caches(lambda _: [torch.arange(3) + 1, graph, torch.optim.SGD([graph], 0.1)])
    with OpCounter(model, dry_run=True):
        model(torch.ones(2, 4))
    assert CACHE["made"][0].tolist() == [1, 2, 3]
