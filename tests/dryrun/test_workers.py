"""Data that worker processes load inside of a block: they count nothing, and a dry run takes what they send."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from opcount import OpCounter
from opcount.interceptor.stack import modes_below

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here"),
]


class Numbers(Dataset[tuple[Tensor, int]]):
    def __init__(self) -> None:
        self.rows = torch.randn(8, 3, 4)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index]
        return (row - row.mean()) / (row @ row.mT).trace().sqrt().item(), index % 2


def trained(loader: Any, *, dry: bool) -> tuple[OpCounter, list[Tensor]]:
    torch.manual_seed(0)
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with OpCounter(model, dry_run=dry) as counter:
        for x, y in loader:
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(x)
    return counter, seen


@pytest.mark.parametrize(
    "start", [method for method in multiprocessing.get_all_start_methods() if method != "forkserver"]
)
def test_a_dry_run_trains_with_the_batches_of_workers(start: str) -> None:
    data = Numbers()
    loader: Any = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=start)
    real, batches = trained(loader, dry=False)
    dry, _ = trained(loader, dry=True)
    assert dry.by_phase() == real.by_phase()
    assert real.by_phase()["forward"].macs == 8 * 12 * 2  # and no product of a worker's
    expected = torch.stack([data[index][0] for index in range(8)])
    assert torch.equal(torch.cat(batches), expected)


@pytest.mark.parametrize("dry", [False, True])
def test_a_forked_process_has_no_mode_of_ours_and_the_parent_keeps_its_own(dry: bool) -> None:
    read, write = os.pipe()
    with OpCounter(dry_run=dry) as counter:
        before = modes_below()
        child = os.fork()
        if not child:
            left = [type(mode).__name__ for mode in modes_below()]
            value = (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()
            os.write(write, f"{left} {value}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert modes_below() == before
        torch.ones(2, 3) @ torch.ones(3, 2)
    assert os.read(read, 1000) == b"[] 8.0"
    assert counter.macs == 12


@pytest.mark.parametrize("dry", [False, True])
def test_a_forked_process_may_leave_the_block(dry: bool) -> None:
    model, child = nn.Linear(3, 2), -1
    try:
        with OpCounter(model, dry_run=dry) as counter:
            model(torch.ones(1, 3))
            child = os.fork()
            model(torch.ones(1, 3)) if child else None
        if not child:
            with OpCounter(model) as own:  # which counts as in any process
                model(torch.ones(2, 3))
            os._exit(0 if own.macs == 2 * 6 and counter.macs == 6 else 1)
    finally:
        if not child:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert counter.macs == 2 * 6
