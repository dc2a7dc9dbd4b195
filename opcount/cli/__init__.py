"""The ``opcount`` command.

Exit codes: 0, all well; 1, a check failed or the model could not be counted; 2, bad usage; 130, interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from opcount.cli.parser import parse
from opcount.errors import OpcountError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit status."""
    options = parse(arguments)
    try:
        status: int = options.command(options)
    except (OpcountError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"opcount: {error}", file=sys.stderr)
        return 1
    return status


def run() -> int:
    """Run `main`; end quietly when the reader of the output is gone, or the user interrupts."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("opcount: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    return status
