"""Live bytes that a dry run predicts for a CUDA device under autocast, which casts more to float32 there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from opcount import OpCounter
from opcount.dryrun import dry_run
from tests.features import needs
from tests.memory.models import MODELS

pytestmark = needs("the operators that PyTorch 2.13 chooses on CUDA")

BF16, FLOAT = torch.bfloat16, torch.float32
X: dict[str, Any] = {"dtype": BF16, "requires_grad": True}

CALLS: dict[str, Any] = {
    "layer_norm": lambda: functional.layer_norm(torch.randn(4, 8, **X), (8,)),
    "group_norm": lambda: functional.group_norm(torch.randn(2, 8, 4, **X), 2),
    "softmax": lambda: torch.randn(4, 8, **X).softmax(-1),
    "log_softmax": lambda: functional.log_softmax(torch.randn(4, 8, **X), -1),
    "sum": lambda: torch.randn(4, 8, **X).sum(),
    "sum of a dimension": lambda: torch.randn(4, 8, **X).sum(1),
    "sum of all": lambda: torch.sum(torch.randn(4, 8, **X), None, keepdim=True),
    "cumsum": lambda: torch.randn(4, 8, **X).cumsum(0),
    "pow": lambda: torch.randn(4, 8, **X).pow(2),
    "exp": lambda: torch.randn(4, 8, **X).exp(),
}


@pytest.mark.parametrize("name", CALLS)
def test_autocast_computes_in_float32_on_cuda_alone(name: str) -> None:
    def dtype(capability: tuple[int, int] | None, *, autocast: bool = True) -> torch.dtype:
        with dry_run(capability=capability), torch.autocast("cpu", BF16, enabled=autocast):
            out = CALLS[name]()
            out.sum().backward()
        result: torch.dtype = out.dtype
        return result

    assert dtype((9, 0)) is FLOAT
    assert dtype(None) is BF16
    assert dtype((9, 0), autocast=False) is BF16


def test_a_dtype_that_the_program_says_is_kept() -> None:
    with dry_run(capability=(9, 0)), torch.autocast("cpu", BF16):
        assert torch.randn(4, 8, dtype=BF16).softmax(-1, dtype=torch.float64).dtype is torch.float64
        assert torch.randn(4, 8, dtype=BF16).sum(dtype=BF16).dtype is BF16
        assert torch.ones(4, dtype=torch.int64).sum().dtype is torch.int64
        assert (torch.randn(4, 8) @ torch.randn(8, 4)).dtype is BF16


def test_a_norm_saves_its_input_in_float32() -> None:
    model, x = nn.LayerNorm(8), torch.randn(6, 8, **X)
    with torch.autocast("cpu", BF16), OpCounter(model, memory=True, dry_run=True, device="H100-SXM5") as c:
        model(x * 1).sum().backward()
    statistics, one = 2 * 6 * 4, 4
    assert sum(row.bytes for row in c.memory.saved) == 4 * 6 * 8 + statistics + one


@pytest.mark.parametrize("name", ["resnet", "fused attention", "attention", "checkpoint", "lstm"])
def test_models_train_under_autocast(name: str) -> None:
    make, draw = MODELS[name]
    model, x = make(), draw()
    optimizer = torch.optim.AdamW(model.parameters())
    with OpCounter(model, memory=True, dry_run=True, device="A100-SXM4-40GB") as c:
        for _ in range(2):
            with torch.autocast("cpu", BF16):
                loss = model(x).float().square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert sum(record.bytes for record in c.memory.records) == c.memory.peak


@pytest.mark.parametrize("cell", [nn.LSTMCell(4, 8), nn.GRUCell(4, 8)])
def test_cells_compute_in_the_dtype_of_autocast(cell: nn.Module) -> None:
    with dry_run(cell, capability=(8, 0)), torch.autocast("cpu", BF16):
        out = cell(torch.randn(3, 4))
        h = out if isinstance(out, torch.Tensor) else out[0]
        assert h.dtype is BF16
        h.sum().backward()
