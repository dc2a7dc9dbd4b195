"""Code without a counter, in processes that have used one before and in such that have not."""

from __future__ import annotations

import subprocess
import sys

import measure

PROGRAM = """
import sys, time, torch
from torch import nn
from opcount import OpCounter

torch.set_num_threads(1)
model, x = nn.Sequential(*(nn.Linear(4, 4) for _ in range(100))), torch.ones(1, 4)

def step():
    model(x).sum().backward()

if "used" in sys.argv:
    with OpCounter(model):
        step()
best = float("inf")
for _ in range(200):
    start = time.perf_counter()
    step()
    best = min(best, time.perf_counter() - start)
print(best)
"""


def _best(*words: str) -> float:
    command = [sys.executable, "-c", PROGRAM, *words]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603  (this program)


def run(cases: list[str] | None) -> list[measure.Result]:
    """Compare the best of many steps, forward and backward."""
    if cases and "training step" not in cases:
        return []
    pairs = [(_best("used"), _best()) for _ in range(7)]
    used, ratio = measure.median(after for after, _ in pairs), measure.median(fresh / after for after, fresh in pairs)
    return [measure.Result("afterwards", "training step", "a counter was used", "none was used", used, ratio)]
