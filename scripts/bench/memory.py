"""The most memory that an analysis takes beyond the model, each in a process of its own."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import measure
import torch
from analyses import PEERS, dry, quietly, real
from models import MODELS, positional
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = {"opcount": real, "opcount dry run": dry, **PEERS}


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Compare opcount with every peer that is installed and can count the model."""
    for name in names or MODELS:
        peaks = {tool: peak for tool in TOOLS if (peak := _elsewhere(name, tool)) is not None}
        for subject in ("opcount", "opcount dry run"):
            yield from [
                measure.Result("memory", name, subject, tool, peaks[subject], peak / peaks[subject], "B")
                for tool, peak in peaks.items()
                if tool in PEERS
            ]


def _elsewhere(name: str, tool: str) -> int | None:
    command = [sys.executable, __file__, name, tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (this file)
    if done.returncode:
        logging.getLogger("bench").info("%s: %s", tool, done.stderr.splitlines()[-1:])
        return None
    return int(done.stdout.splitlines()[-1])


def _kilobytes(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))


def peak(name: str, tool: str) -> int:
    """Return the bytes by which the resident memory of this process rises (Linux), after a first, small analysis."""
    quietly(TOOLS[tool], nn.Linear(2, 2), torch.ones(1, 2))()
    analyse = quietly(TOOLS[tool], *positional(name))
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    analyse()
    return 1024 * max(1, _kilobytes("VmHWM") - before)


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
