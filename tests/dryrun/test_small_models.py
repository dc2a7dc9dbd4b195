"""A small model whose inputs come from outside the block is computed: what its layers return may decide what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.arange(6).view(2, 3)
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])


class Language(nn.Module):
    """Attends to its tokens, and scores the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.head(self.attention(x, x, x)[0])[:, -1]  # type: ignore[no-any-return]


def _generates_until_a_token(model: Any) -> None:
    tokens, running = TOKENS, torch.ones(2, dtype=torch.bool)
    while running.any() and tokens.shape[1] < 12:
        token = torch.where(running, model(tokens).argmax(-1), 0)
        tokens = torch.cat([tokens, token[:, None]], 1)
        running &= token > 3


def _samples_until_a_token(model: Any) -> None:
    tokens = TOKENS
    while tokens.shape[1] < 12 and (tokens[:, -1] > 0).all():
        tokens = torch.cat([tokens, torch.multinomial(model(tokens).softmax(-1), 1)], 1)


class Experts(nn.Module):
    """Gives each row to the expert with the highest score."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        chosen, out = self.gate(x).argmax(-1), torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            if (chosen == i).any():
                out[chosen == i] = expert(x[chosen == i])
        return out


def _trains(optimizer: Callable[[Any], Any]) -> Callable[[Any], None]:
    def program(model: Any) -> None:
        steps = optimizer(model.parameters())
        for _ in range(3):
            steps.zero_grad()
            loss = F.cross_entropy(model(X), CLASSES)
            loss.backward()
            steps.step(lambda loss=loss: loss)
            if loss.item() < 1.05:
                break

    return program


class Scaled(torch.optim.Optimizer):
    """Scales its steps by the norms of parameters and gradients, unless one of these is 0."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, _closure: object) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            size = max(1e-3, p.pow(2).mean().sqrt())
            norm = p.grad.norm()
            p.add_(p.grad if norm == 0 else p.grad * size / norm, alpha=-0.1)


def _searches(model: Any) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(X).pow(2).mean()
        loss.backward()
        return loss  # type: ignore[no-any-return]

    optimizer.step(closure)


def _pools(model: Any) -> None:
    scores = model(X)[:, 0].tanh()
    best = X[scores > 0]
    pairs = torch.nonzero(scores[:, None] > scores)
    model(best[: len(set(scores.detach().numpy().round(1).tolist()))])
    model(X[pairs[:, 0]]).sum().backward()


def _convolves(model: Any) -> None:
    y = model(X.view(1, 1, 6, 8))
    while y.abs().mean() > 1e-3:
        y = model(y)


def _recurs(model: Any) -> None:
    out, (state, _) = model(X[None])
    model(X[None, : 1 + int(state.argmax())])
    model(X[None, out[0, :, 0] >= out[0, 0, 0]])


PROGRAMS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], None]]] = {
    "generation": (Language, _generates_until_a_token),
    "generation in evaluation": (lambda: Language().eval(), _generates_until_a_token),
    "sampling": (Language, _samples_until_a_token),
    "experts": (Experts, lambda model: [model(X).sum().backward() for _ in range(3)]),
    "early stop": (lambda: nn.Linear(8, 3), _trains(lambda p: torch.optim.AdamW(p, 0.05))),
    "averages": (lambda: nn.Linear(8, 3), _trains(torch.optim.ASGD)),
    "norms": (lambda: nn.Linear(8, 3), _trains(Scaled)),
    "line search": (lambda: nn.Linear(8, 3), _searches),
    "pooling": (lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), _pools),
    "convolution": (lambda: nn.Conv2d(1, 1, 3, padding=1, bias=False), _convolves),
    "recurrence": (lambda: nn.LSTM(8, 4, batch_first=True), _recurs),
    "sizes above some thousand": (
        lambda: nn.Sequential(nn.Linear(8, 300), nn.Linear(300, 200)),
        lambda model: model(X[: int(model(X).argmax(-1).sum()) % 6]),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("seed", range(3))
def test_what_a_small_model_returns_decides_as_in_a_real_run(name: str, seed: int) -> None:
    make, program = PROGRAMS[name]

    def seeded() -> nn.Module:
        torch.manual_seed(seed)
        return make()

    assert_same_counts(seeded, program)


def test_random_numbers_of_layers_and_samples_are_those_of_a_real_run_and_put_back() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    drawn = []

    def program() -> None:
        drawn.append(torch.multinomial(model(X).softmax(-1), 2).tolist())
        drawn.append(torch.bernoulli(F.dropout(model(X).sigmoid(), 0.3) * 0.7).tolist())
        drawn.append(torch.normal(model(X), 1.0).tolist())

    torch.manual_seed(1)
    with OpCounter(model, dry_run=True):
        program()
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    program()
    assert drawn[:3] == drawn[3:]


def test_memory_is_not_pinned() -> None:
    model = nn.Linear(8, 3)
    with OpCounter(model, dry_run=True):
        asked = [t.is_pinned() for t in (model(X), model.weight, torch.randn(300, 300) @ torch.randn(300, 300))]
    assert asked == [False, False, False]


def test_memory_can_be_asked_to_be_pinned_on_a_machine_without_a_device() -> None:
    model = nn.Linear(8, 3)
    with OpCounter(model, dry_run=True) as c:
        pinned = X.pin_memory()
        out = model(pinned)
    assert (out.shape, pinned.shape) == ((len(X), 3), X.shape)
    assert c.macs == len(X) * 8 * 3


@pytest.mark.parametrize("rows", [1, 100])
def test_results_of_large_layers_and_of_data_made_inside_are_not_known(rows: int) -> None:
    large, x = nn.Linear(300, 300), torch.randn(rows, 300)
    with pytest.raises(DryRunError), OpCounter(large, dry_run=True):
        large(x).tolist()
    small = nn.Linear(8, 8)
    with pytest.raises(DryRunError), OpCounter(small, dry_run=True):
        small(torch.randn(rows, 8)).tolist()


def test_a_large_result_of_small_arguments_is_not_computed() -> None:
    column = torch.arange(30000.0)
    with OpCounter(dry_run=True) as c:
        for _ in range(2):
            (column[:, None] * column)[0, 0].add(1)
    assert c.profile.arith == 2 * (30000**2 + 1)
