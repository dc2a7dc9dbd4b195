"""Random numbers that decide what runs are those of a real run; the generator is put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable


class Drops(nn.Module):
    """Skips layers at random, and draws other numbers between: dropout masks, noise."""

    def __init__(self, skips: Callable[[], bool], width: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(8))
        self.dropout = nn.Dropout(0.3)
        self.skips = skips

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.dropout(x) + torch.randn_like(x)
            if not self.skips():
                x = layer(x)
        return x


SKIPS: dict[str, Callable[[], bool]] = {
    "rand": lambda: bool(torch.rand([]) < 0.5),
    "uniform_": lambda: torch.empty(1).uniform_().item() < 0.5,
    "bernoulli_": lambda: bool(torch.empty(()).bernoulli_(0.5)),
    "randint": lambda: int(torch.randint(0, 2, (1,))) == 0,
    "random_": lambda: torch.empty(1, dtype=torch.long).random_(2).item() == 0,
    "randperm": lambda: torch.randperm(2).tolist()[0] == 0,
    "randn": lambda: bool((torch.randn(3) > 0)[1]),
}


@pytest.mark.parametrize(
    ("name", "width"), [*((name, 8) for name in SKIPS), *((name, 70) for name in SKIPS if name != "randn")]
)
def test_a_layer_is_skipped_as_in_a_real_run_with_the_same_seed(name: str, width: int) -> None:
    x = torch.randn(60, width)
    for seed in range(2):

        def make(seed: int = seed) -> nn.Module:
            torch.manual_seed(seed)
            return Drops(SKIPS[name], width)

        assert_same_counts(make, lambda model: (model(x).sum() + model.layers[0].bias.sum()).backward())


def test_the_generator_is_put_back_and_a_seed_of_the_programs_own_holds() -> None:
    model, x, seed = Drops(SKIPS["rand"]), torch.randn(4, 8), 7
    before = torch.get_rng_state()
    with OpCounter(model, dry_run=True):
        model(x)
    assert torch.equal(torch.get_rng_state(), before)
    with OpCounter(model, dry_run=True):
        model(x)
        torch.manual_seed(seed)
        model(x)
    assert torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(seed).get_state())


def test_what_is_computed_again_draws_what_it_drew() -> None:
    """A checkpoint reads the state of the generator when dropout masks have been left out."""

    class Checkpoints(Drops):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, torch.dropout(x, 0.1, train=True), use_reentrant=False)  # type: ignore[no-any-return]

    x = torch.randn(70, 70)
    for seed in range(2):

        def make(seed: int = seed) -> nn.Module:
            torch.manual_seed(seed)
            return Checkpoints(SKIPS["rand"], 70)

        assert_same_counts(make, lambda model: (model(x).sum() + model.layers[0].bias.sum()).backward())


def test_numbers_after_a_large_draw_are_refused_until_the_program_seeds() -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor, *, seeds: bool) -> Tensor:
            x = x + torch.rand(600, 600)
            if seeds:
                torch.manual_seed(1)
            return x @ x if torch.rand(()) < 1 else x

    model, x = Asks(), torch.zeros(600, 600)
    with OpCounter(model, dry_run=True) as c:
        model(x, seeds=True)
    assert c.macs == 600**3
    with pytest.raises(DryRunError), OpCounter(model, dry_run=True):
        model(x, seeds=False)


def test_numbers_with_a_fraction_that_the_program_draws_stand_for_data() -> None:
    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        torch.rand(2).tolist()
    with OpCounter(dry_run=True) as c:
        size = int(torch.randint(3, 4, ()))
        torch.rand(2, 2) @ torch.rand(2, size)
    assert c.macs == 2 * 2 * 3


def test_a_mask_that_a_library_draws_decides_in_any_folder_of_packages() -> None:
    code = compile("def kept(x): return x[torch.rand(len(x)) >= 0.3]", "/any/site-packages/library.py", "exec")
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    exec(code, {"torch": torch}, found)  # noqa: S102
    x = torch.arange(20)

    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Embedding(20, 4)

    assert_same_counts(make, lambda model: (model(found["kept"](x)) * 2).sum().backward())
