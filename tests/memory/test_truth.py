"""Live bytes against the allocation events of PyTorch's profiler, and a dry run against a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from opcount import OpCounter
from tests.memory.models import MODELS, OPTIMIZERS, training
from tests.memory.truth import allocated

if TYPE_CHECKING:
    from opcount.live_memory import LiveMemory

SCALARS = 64
"""Bytes of the numbers of 8 bytes that PyTorch makes of Python's where no operator is seen, a few at a time."""

CASES = [(model, "adamw") for model in MODELS] + [(model, "none") for model in MODELS]
CASES += [("mlp", optimizer) for optimizer in OPTIMIZERS if optimizer not in {"none", "adamw"}]

UNLIKE = {"lstm", "sparse"}
"""Models whose dry run differs: fake kernels have no workspace, fake sparse tensors no rows."""


def counted(model: str, optimizer: str, *, steps: int = 2, dry_run: bool = False) -> tuple[LiveMemory, int]:
    """Return the memory of a training, and the bytes that are alive before it."""
    network, x, run = training(model, optimizer, steps)
    before = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (x, *network.parameters())}
    before |= {b.untyped_storage().data_ptr(): b.untyped_storage().nbytes() for b in network.buffers()}
    with OpCounter(network, memory=True, dry_run=dry_run) as c:
        run()
    return c.memory, sum(before.values())


@pytest.mark.parametrize(("model", "optimizer"), CASES)
def test_the_peak_is_the_allocators_without_what_kernels_free_themselves(model: str, optimizer: str) -> None:
    allocated(training(model, optimizer, 1)[2])  # what PyTorch makes once in a process
    truth = allocated(training(model, optimizer)[2])
    memory, before = counted(model, optimizer)
    assert 0 <= truth.between - (memory.peak - before) <= SCALARS
    assert sum(record.bytes for record in memory.records) == memory.peak


@pytest.mark.parametrize(("model", "optimizer"), [case for case in CASES if case[0] not in UNLIKE])
def test_a_dry_run_has_the_peak_of_a_real_one(model: str, optimizer: str) -> None:
    real, _ = counted(model, optimizer)
    dry, _ = counted(model, optimizer, dry_run=True)
    assert abs(dry.peak - real.peak) <= 8
    categories = {key: size for key, size in real.by_category().items() if key != "temporaries"}
    assert {key: size for key, size in dry.by_category().items() if key != "temporaries"} == categories


def test_what_an_operator_returns_that_stands_for_steps_is_seen() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 5, 16)
    with torch.no_grad(), OpCounter(model, memory=True) as c:
        model(x)
    with torch.no_grad():
        truth = allocated(lambda: model(x))
    weights = sum(p.nbytes for p in model.parameters())
    assert c.memory.peak == weights + x.nbytes + truth.between
    assert c.memory.by_category()["outputs"] == x.nbytes


def test_ten_steps_have_the_peak_of_two() -> None:
    assert counted("resnet", "adamw", steps=10)[0].peak == counted("resnet", "adamw")[0].peak


def test_a_model_that_is_made_inside_a_dry_run_has_the_peak_of_a_real_one() -> None:
    real, dry = (OpCounter(memory=True, dry_run=dry_run) for dry_run in (False, True))
    for c in (real, dry):
        with c:
            model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8))
            model(torch.ones(8, 4)).sum().backward()
            del model
    assert dry.memory.peak == real.memory.peak
    assert dry.memory.by_category() == real.memory.by_category()
