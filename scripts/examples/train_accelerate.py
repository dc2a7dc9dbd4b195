"""A training loop of Accelerate that logs its utilization: ``python scripts/examples/train_accelerate.py [DEVICE]``.

Without a device it measures this machine. Each step is of two batches, which is one step of the meter.
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from opcount import Device, Meter

ACCUMULATED = 2


def main() -> None:
    """Train a small model for a hundred steps."""
    device = Device.find(sys.argv[1]) if len(sys.argv) > 1 else Device.measure("cpu")
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATED)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    data = DataLoader(torch.randn(100 * ACCUMULATED * 32, 64), batch_size=32)
    model, optimizer, data = accelerator.prepare(model, torch.optim.AdamW(model.parameters()), data)
    meter = Meter(model, device=device, every=50)
    batches = iter(data)
    for step in range(1, 101):
        with meter.step():
            for batch in (next(batches) for _ in range(ACCUMULATED)):
                meter.add_tokens(len(batch))
                with accelerator.accumulate(model):
                    accelerator.backward(model(batch).square().mean())
                    optimizer.step()
                    optimizer.zero_grad()
        if step % 50 == 0:
            reading = meter.read(all_ranks=True)
            accelerator.log(reading.metrics(), step=step)
            accelerator.print(f"step {step}: {reading}")


if __name__ == "__main__":
    main()
