"""A plain training loop that prints its utilization: ``python scripts/examples/train_plain.py [DEVICE]``.

Without a device it measures this machine. Each step is of two batches, which is one step of the meter.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from opcount import Device, Meter


def main() -> None:
    """Train a small model for a hundred steps."""
    device = Device.find(sys.argv[1]) if len(sys.argv) > 1 else Device.measure("cpu")
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    meter = Meter(model, device=device, every=50)
    for step in range(1, 101):
        with meter.step():
            for _ in range(2):
                batch = torch.randn(32 + step % 7, 64)
                meter.add_tokens(len(batch))
                model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0:
            print(f"step {step}: {meter.read()}")


if __name__ == "__main__":
    main()
