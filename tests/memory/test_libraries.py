"""Live bytes of real models against the allocation events of PyTorch's profiler, and dry against real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import SGD, AdamW

from opcount import OpCounter
from tests.memory.libraries import LIBRARY_MODELS, gpt2, loss_of
from tests.memory.truth import allocated

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from opcount.live_memory import LiveMemory


NUMBERS = 128
"""Bytes of the numbers of 8 bytes that autograd keeps of Python's, one for each scaling: no operator is seen."""

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda _: None,
    "sgd": lambda p: SGD(p, 0.1),
    "adamw": lambda p: AdamW(p, foreach=False),
    "foreach": lambda p: AdamW(p, foreach=True),
    "fused": lambda p: AdamW(p, fused=True),
}
CASES = [(model, "adamw") for model in LIBRARY_MODELS] + [("gpt2", each) for each in OPTIMIZERS if each != "adamw"]


def training(name: str, optimizer: str) -> tuple[nn.Module, Callable[[int], None], int]:
    """Return a model, a loop that trains it for some steps, and the bytes that are alive before."""
    torch.manual_seed(0)
    model, inputs = LIBRARY_MODELS[name]()
    stepper = OPTIMIZERS[optimizer](model.parameters())

    def run(steps: int) -> None:
        for _ in range(steps):
            loss_of(model(**inputs)).backward()
            if stepper is None:
                model.zero_grad()
            else:
                stepper.step()
                stepper.zero_grad()

    return model, run, alive(model, inputs)


def alive(model: nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """Return the bytes of the storages of a model and of its inputs."""
    storages = [t.untyped_storage() for t in (*model.parameters(), *model.buffers(), *inputs.values())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def counted(name: str, optimizer: str, steps: int, *, dry_run: bool = False) -> tuple[LiveMemory, int]:
    """Return the live bytes of a training, and those before it."""
    model, run, before = training(name, optimizer)
    with OpCounter(model, memory=True, dry_run=dry_run) as c:
        run(steps)
    return c.memory, before


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_a_training_has_the_peak_of_the_allocator(name: str, optimizer: str) -> None:
    run = training(name, optimizer)[1]
    allocated(lambda: run(1))  # what PyTorch makes once in a process
    run = training(name, optimizer)[1]
    truth = allocated(lambda: run(2))
    memory, before = counted(name, optimizer, 2)
    assert 0 <= truth.between - (memory.peak - before) <= NUMBERS
    assert sum(record.bytes for record in memory.records) == memory.peak


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_a_dry_run_is_within_one_percent(name: str, optimizer: str) -> None:
    real, _ = counted(name, optimizer, 2)
    dry, _ = counted(name, optimizer, 2, dry_run=True)
    assert abs(dry.peak - real.peak) <= 0.01 * real.peak
    assert dry.unknown == ()


@pytest.mark.parametrize("name", ["resnet18", "gpt2 eager"])
def test_ten_steps_have_the_peak_of_the_allocator(name: str) -> None:
    training(name, "adamw")[1](1)
    run = training(name, "adamw")[1]
    truth = allocated(lambda: run(10))
    memory, before = counted(name, "adamw", 10)
    assert 0 <= truth.between - (memory.peak - before) <= NUMBERS


def test_text_is_generated_with_the_peak_of_the_allocator() -> None:
    def writing() -> tuple[nn.Module, Callable[[], Any], int]:
        torch.manual_seed(0)
        model, inputs = gpt2()
        model.eval()
        options = {"max_new_tokens": 6, "do_sample": False, "use_cache": True, "pad_token_id": 0}
        return model, lambda: model.generate(inputs["input_ids"], **options), alive(model, inputs)

    writing()[1]()
    truth = allocated(writing()[1])
    model, run, before = writing()
    with OpCounter(model, memory=True) as c:
        run()
    assert 0 <= truth.between - (c.memory.peak - before) <= NUMBERS
