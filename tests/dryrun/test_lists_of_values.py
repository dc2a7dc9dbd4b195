"""Known numbers in lists, which PyTorch reads where no dispatch mode sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

READS = [
    lambda m, x: torch.tensor([m.steps, 2]).sum(),
    lambda m, x: torch.tensor([[m.steps, m.cuts[0]], [1, m.steps]]).sum(),
    lambda m, x: torch.as_tensor((m.steps, m.rate)).sum().round(),
    lambda m, x: torch.asarray([m.rate, m.rate]).sum().round(),
    lambda m, x: torch.ones(2).new_tensor([m.steps]).sum(),
    lambda m, x: torch.tensor_split(x, m.cuts)[1].shape[0],
    lambda m, x: len(x.tensor_split(tensor_indices_or_sections=m.cuts)),
]


class Sized(nn.Module):
    """Counts its calls in a buffer, and multiplies by as many rows as a function reads from its buffers."""

    steps: Tensor
    cuts: Tensor
    rate: Tensor

    def __init__(self, read: Callable[[Sized, Tensor], Tensor | int]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(1))
        self.register_buffer("cuts", torch.tensor([2, 5]))
        self.register_buffer("rate", torch.tensor(1.5))
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        self.rate.add_(0.25)
        return x.new_ones(int(self.read(self, x)), 4) @ self.weight


def macs(read: Callable[[Sized, Tensor], Tensor | int], *, dry: bool, inside: bool) -> int:
    torch.manual_seed(0)
    model = None if inside else Sized(read)
    with OpCounter(model, dry_run=dry) as c:
        model = model or Sized(read)
        for _ in range(3):
            model(torch.ones(9, 4))
    assert c.coverage.complete
    return c.macs


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("read", READS)
def test_known_numbers_in_lists_are_those_of_a_real_run(
    read: Callable[[Sized, Tensor], Tensor | int], inside: bool
) -> None:
    assert macs(read, dry=True, inside=inside) == macs(read, dry=False, inside=inside) > 0


def test_numbers_in_lists_that_something_unknown_was_written_to_are_refused() -> None:
    model = Sized(READS[0])

    def program() -> None:
        with OpCounter(model, dry_run=True):
            model.steps.add_(torch.randn(1000).sum().long())
            model(torch.ones(9, 4))

    with pytest.raises(DryRunError):
        program()
    assert model.steps.item() == 1
