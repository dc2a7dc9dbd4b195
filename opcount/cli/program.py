"""``opcount run SCRIPT [ARGS]``: any Python program, counted whole."""

from __future__ import annotations

import runpy
import sys
import traceback
import warnings
from typing import TYPE_CHECKING

from opcount.cli.formats import chosen, render
from opcount.cli.output import write
from opcount.counter import OpCounter
from opcount.errors import InputError, UncountedOperatorWarning

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def run(options: argparse.Namespace) -> int:
    """Run a program as Python does, count it, and end with its own exit code.

    What the program prints stays where it prints it; the report goes to standard error, or to a file.
    """
    script: Path = options.script
    if not script.is_file():
        raise InputError(f"run: expected a Python program, got {str(script)!r}, which does not exist. Check the path.")
    if chosen(options) == "arch":
        raise InputError("--format: arch needs one model, and a program has any number. Use tree.")
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *options.arguments]
    sys.path.insert(0, str(script.resolve().parent))
    counter = OpCounter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncountedOperatorWarning)  # the report says it
            with counter:
                status = _status(script)
    finally:
        sys.argv, sys.path[:] = before
    text = render(counter.profile, options)
    if options.output is None:
        sys.stdout.flush()
        sys.stderr.write(text)
    else:
        write(text, options.output)
    return status


def _status(script: Path) -> int:
    """Run a program; return what the interpreter would exit with."""
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001  (the program's own errors end it as they would have)
        traceback.print_exc()
        return 1
    return 0
