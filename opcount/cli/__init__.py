"""The ``opcount`` command.

Exit codes: 0, all well; 1, a check failed; 2, what was asked for cannot be done; 130, interrupted. `opcount run` ends
with the exit code of the program that it counts.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from opcount.cli.formats import chosen
from opcount.cli.output import check, warn
from opcount.cli.parser import parse
from opcount.errors import OpcountError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if getattr(options, "output", None) is not None:
            check(options.output)  # before a count that takes long
        if hasattr(options, "format"):
            chosen(options)
        status: int = options.command(options)
    except (OpcountError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        warn(str(error))
        return 2
    return status


def run() -> int:
    """Run `main`; end quietly when the reader of the output is gone, or the user interrupts."""
    try:
        status = main()
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("opcount: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    return status
