"""A dispatch mode that was entered before a counter sees what it would see without one."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (as everybody calls it)
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter

PROGRAMS = {
    "linear": lambda x: F.linear(x, x),
    "matmul": lambda x: x @ x,
    "einsum": lambda x: torch.einsum("ij,jk->ik", x, x),
    "convolution": lambda x: F.conv1d(x[None], x[:, :, None]),
}


class Log(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def seen(program, mode, counter):
    with mode(), Log() as log, counter() as c:
        program(torch.ones(4, 4))
    return log.seen, c


@pytest.mark.filterwarnings("ignore::opcount.errors.UncountedOperatorWarning")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_user_s_mode_sees_composite_operators_as_it_does_without_us(program, mode):
    bare, _ = seen(PROGRAMS[program], mode, nullcontext)
    counted, c = seen(PROGRAMS[program], mode, OpCounter)
    assert counted == bare
    assert c.macs == 4 * 4 * 4 or not c.coverage.complete  # what it keeps to itself is named


@pytest.mark.parametrize("below", [OpCounter, FakeTensorMode])
@pytest.mark.parametrize("program", PROGRAMS)
def test_counters_and_fake_tensors_below_change_no_count(program, below):
    with torch.inference_mode(), below(), OpCounter(strict=True) as c:
        PROGRAMS[program](torch.ones(4, 4))
    assert c.macs == 4 * 4 * 4


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_dry_run_under_inference_mode_counts_what_a_real_run_counts(program):
    with torch.inference_mode(), OpCounter(strict=True, dry_run=True) as c:
        PROGRAMS[program](torch.ones(4, 4))
    assert c.macs == 4 * 4 * 4
