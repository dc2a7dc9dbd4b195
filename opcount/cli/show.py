"""``opcount show FILE.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cli.formats import render, show_totals
from opcount.cli.output import read, write

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print a stored profile."""
    profile = read(options.file)
    write(render(profile, options), options.output)
    show_totals(profile, options)
    return 0
