"""``opcount show FILE.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cli.formats import render
from opcount.cli.output import read, write

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print a stored profile."""
    write(render(read(options.file), options), options.output)
    return 0
