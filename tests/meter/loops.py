"""A device, a clock that is set by hand, and a model whose steps are arithmetic."""

from __future__ import annotations

import torch
from torch import nn

from opcount import Device, Meter
from opcount.clocks import HostClock

DEVICE = Device(name="toy", peaks={"float32": 1e9, "float64": 0.5e9}, bandwidth=1e9)
WIDTH = 8


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def net(dtype=torch.float32):
    return nn.Linear(WIDTH, WIDTH, bias=False, dtype=dtype)


def step_flops(rows):
    """Return the FLOPs of forward and backward of `net`, one product each: the input needs no gradient."""
    return 2 * 2 * rows * WIDTH * WIDTH


def train(model, rows):
    dtype = next(model.parameters()).dtype
    model(torch.ones(rows, WIDTH, dtype=dtype)).sum().backward()


def meter_of(model, **options):
    """Return a meter with a clock that is set by hand, and the clock."""
    now = HandClock()
    return Meter(model, device=DEVICE, clock=HostClock(now), **options), now
