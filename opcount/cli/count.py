"""``opcount count TARGET``."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import torch

from opcount.cli.formats import chosen, read_as, render
from opcount.cli.output import warn, write
from opcount.cli.progress import progress
from opcount.counter import OpCounter
from opcount.errors import DryRunError, InputError, OpcountError, UncountedOperatorWarning
from opcount.loaders import blame, load
from opcount.loaders.step import forward, training_step

if TYPE_CHECKING:
    import argparse

    from opcount.loaders import Loaded
    from opcount.profile import Profile


def run(options: argparse.Namespace) -> int:
    """Load, count, print."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a count needs no weights: nothing is to be fetched
    _check_optimizer(options)
    with redirect_stdout(sys.stderr), warnings.catch_warnings():  # what a model prints is no part of the report
        warnings.simplefilter("ignore", UncountedOperatorWarning)  # the report says it
        loaded, profile = _count(options)
    if chosen(options) == "arch":
        from opcount.cli.arch import render_arch  # noqa: PLC0415

        write(render_arch(loaded.model, read_as(profile, options)), options.output)
    else:
        write(render(profile, options), options.output)
    return 0


def _count(options: argparse.Namespace) -> tuple[Loaded, Profile]:
    """Count without computing; compute where that is not possible, unless a dry run was insisted on."""
    if options.dry_run is False:
        return _attempt(options, dry=False)
    try:
        return _attempt(options, dry=True)
    except DryRunError as error:
        if options.dry_run:
            raise
        warn(f"{error} Computing instead.")
    return _attempt(options, dry=False)


def _attempt(options: argparse.Namespace, *, dry: bool) -> tuple[Loaded, Profile]:
    with progress(f"building {options.target}"):
        loaded = _load(options, "meta" if dry and options.device == "cpu" else options.device)
    with progress(f"counting {options.target}"):
        return loaded, _profile(loaded, options, dry=dry)


def _load(options: argparse.Namespace, device: str) -> Loaded:
    return load(
        options.target,
        sizes=tuple(options.shape),
        batch_size=options.batch_size,
        device=device,
        train=options.train,
        options=tuple(options.cfg_options),
        sequence=options.seq,
        inputs=tuple(options.input),
        arguments=tuple(options.kwargs),
        dtype=options.dtype,
    )


def _profile(loaded: Loaded, options: argparse.Namespace, *, dry: bool) -> Profile:
    try:
        with torch.set_grad_enabled(options.train), OpCounter(loaded.model, dry_run=dry) as counter:
            if options.train:
                training_step(loaded, options.optimizer)
            else:
                forward(loaded)
    except OpcountError:
        raise
    except Exception as error:
        hint = " Say what it takes with --shape or --input" if not options.input else " Check --input"
        hint += ", or compute it with --real." if dry else "."
        raise InputError(f"the model raised {blame(error, loaded.model).rstrip('.')}.{hint}") from error
    return counter.profile


def _check_optimizer(options: argparse.Namespace) -> None:
    known = [name for name, value in vars(torch.optim).items() if isinstance(value, type) and name != "Optimizer"]
    if options.optimizer not in (*known, "none"):
        raise InputError(
            f"--optimizer: expected none or a class of torch.optim ({', '.join(sorted(known))}), "
            f"got {options.optimizer!r}."
        )
