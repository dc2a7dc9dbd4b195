"""``opcount count TARGET``."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import opcount
from opcount.cli.attempt import NeedsNewProcessError, count
from opcount.cli.formats import chosen, read_as, render
from opcount.cli.output import warn, write
from opcount.errors import InputError, UncountedOperatorWarning

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Load, count, print."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a count needs no weights: nothing is to be fetched
    _check_optimizer(options)
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():  # what a model prints is no part of the report
            warnings.simplefilter("ignore", UncountedOperatorWarning)  # the report says it
            loaded, profile, reason = count(options)
    except NeedsNewProcessError as why:
        return _in_new_process(options, str(why))
    for message in filter(None, (loaded.note, reason)):
        warn(message)
    if chosen(options) == "arch":
        from opcount.cli.arch import render_arch  # noqa: PLC0415

        write(render_arch(loaded.model, read_as(profile, options)), options.output)
    else:
        write(render(profile, options), options.output)
    return 0


def _in_new_process(options: argparse.Namespace, reason: str) -> int:
    """Compute where nothing is left of a dry attempt."""
    name, *arguments = options.command_line
    paths = [str(Path(opcount.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "opcount", name, "--real", *arguments]
    sys.stdout.flush()
    status = subprocess.run(command, check=False, env=environment).returncode  # noqa: S603  (this program)
    if status == 0:
        warn(reason)
    return status


def _check_optimizer(options: argparse.Namespace) -> None:
    known = [name for name, value in vars(torch.optim).items() if isinstance(value, type) and name != "Optimizer"]
    if options.optimizer not in (*known, "none", None):
        raise InputError(
            f"--optimizer: expected none or a class of torch.optim ({', '.join(sorted(known))}), "
            f"got {options.optimizer!r}."
        )
    if options.optimizer is not None and not options.train:
        raise InputError(f"--optimizer: expected it beside --train, got {options.optimizer!r} alone. Add --train.")
