"""Training loops for the tests of this folder."""

from __future__ import annotations

import torch
from torch import nn

ROWS, IN, OUT = 3, 2, 5


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(IN, OUT, bias=False), nn.Tanh(), nn.Linear(OUT, 1, bias=False))


def step_macs(rows=ROWS):
    """Return what a step of `net` takes: two products forward, the gradients of both weights and of the activation."""
    return rows * (2 * (IN * OUT + OUT) + OUT)


def train(model, counter, batches, optimizer=None, accumulate=1):
    """Train with every batch a step of the counter; return the losses."""
    losses = []
    for number, batch in enumerate(batches):
        with counter:
            loss = model(batch).square().mean()
            loss.backward()
            if optimizer is not None and (number + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def batches(steps, rows=ROWS):
    return [torch.randn(rows, IN) for _ in range(steps)]
