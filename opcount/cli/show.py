"""``opcount show FILE.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cli.formats import chosen, render
from opcount.cli.output import read, write
from opcount.errors import InputError

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Print a stored profile."""
    if chosen(options) == "arch":
        raise InputError("--format: arch needs the model, and a stored profile has none. Use tree, or `opcount count`.")
    write(render(read(options.file), options), options.output)
    return 0
