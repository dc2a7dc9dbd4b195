"""A training script of several ranks, of which rank 2 raises, hangs or is killed: ``python -m ... HOW``."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=timedelta(seconds=300))
model = nn.parallel.DistributedDataParallel(nn.Linear(8, 8))
for step in range(3):
    if step == 1 and dist.get_rank() == 2:
        if sys.argv[1] == "raise":
            raise ValueError("rank 2 has had enough")
        if sys.argv[1] == "hang":
            time.sleep(1000)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    model(torch.randn(4, 8)).sum().backward()
dist.destroy_process_group()
