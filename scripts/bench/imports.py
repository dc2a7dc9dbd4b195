"""Time that ``import opcount`` adds to ``import torch``, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import measure


def _interpreter(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(_names: list[str] | None = None) -> list[measure.Result]:
    """Time both; a ratio of 0.95 is 5 % more than torch alone."""

    def start(code: str) -> None:
        subprocess.run(_interpreter(code), check=True)  # noqa: S603  (this interpreter, these words)

    subject = ("import torch, opcount.counter", lambda: start("import torch, opcount.counter"))
    return measure.compare("imports", "python -c", subject, {"import torch": lambda: start("import torch")}, pairs=5)
