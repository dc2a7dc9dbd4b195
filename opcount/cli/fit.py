"""``opcount fit TARGET --on DEVICE``: whether a model has room on a device, and what would make it fit."""

from __future__ import annotations

import os
import sys
import warnings
from argparse import Namespace
from contextlib import redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from opcount._torch.dispatch import CAN_REDISPATCH
from opcount.cli.attempt import attempt
from opcount.cli.count import check_optimizer, explained
from opcount.cli.fit_search import largest_batch
from opcount.cli.output import warn, write
from opcount.counter import OpCounter
from opcount.devices import Device, in_units
from opcount.errors import InputError, OpcountError, UncountedOperatorWarning
from opcount.fit import check_device
from opcount.fit.verdict import FITS, TOO_LARGE
from opcount.loaders.blocks import as_pattern, checkpoint_modules, matching, repeated_blocks
from opcount.loaders.step import forward, training_step, with_labels
from opcount.reporter.columns import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.cli.fit_search import Search
    from opcount.fit import Fit
    from opcount.loaders import Loaded

_STEPS = 3
"""Training steps of a count: the first makes the optimizer's state, and the third shows what the allocator keeps."""

_BLOCKS = ""
"""Value of ``--checkpoint`` for the blocks that the model repeats."""


class Remedy(NamedTuple):
    """A change of the training that may make it fit.

    Attributes:
        name: As it is printed.
        options: The options that differ.
    """

    name: str
    options: dict[str, object]


def run(options: Namespace) -> int:
    """Count in dry runs, replay the allocations, print what is needed and the verdict."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a count needs no weights: nothing is to be fetched
    check_optimizer(options)
    if options.checkpoint is not None and not options.train:
        raise InputError(f"--checkpoint: expected it beside --train, got {options.checkpoint!r} alone. Add --train.")
    device = check_device(Device.find(options.on))
    options.notes = set()  # of all counts
    if options.dry_run is None:
        options.dry_run = True
    with redirect_stdout(sys.stderr), warnings.catch_warnings():  # what a model prints is no part of the report
        warnings.simplefilter("ignore", UncountedOperatorWarning)  # memory does not depend on formulas
        lines, fit = _searched(options, device) if options.batch_size == "auto" else _counted(options, device)
    write("".join(f"{line}\n" for line in lines), options.output)
    return {FITS: 0, TOO_LARGE: 1}.get(fit.verdict, 2)


def _counted(options: Namespace, device: Device) -> tuple[list[str], Fit]:
    """Return the report and the verdict of one batch; where it does not fit, with what would change that."""
    fit, blocks = _count(options, device)
    lines = list(fit.lines())
    if fit.verdict == TOO_LARGE:
        lines += ["", *_remedies(options, device, blocks)]
    return lines, fit


def _searched(options: Namespace, device: Device) -> tuple[list[str], Fit]:
    """Return the report of a search for the largest batch, and the verdict of that."""
    search = largest_batch(lambda batch: _count(_with(options, batch_size=batch), device)[0])
    lines = [*_curve(search), ""]
    if search.largest is None:
        batch, fit = search.trials[0]
        lines += [*fit.lines(), f"largest batch: none, for {batch} does not fit"]
        smallest = _with(options, batch_size=batch)
        return [*lines, "", *_remedies(smallest, device, _count(smallest, device)[1])], fit
    batch, fit = search.largest
    bound = "" if search.is_exact else f" at least; the search ended after {len(search.trials)} dry runs"
    return [*lines, *fit.lines(), f"largest batch: {batch}{bound}"], fit


def _curve(search: Search) -> Iterator[str]:
    rows = [
        [
            f"{batch:,}",
            f"{in_units(fit.replay.requested)}B",
            f"{in_units(fit.replay.reserved)}B",
            f"{in_units(fit.needed)}B",
            fit.verdict,
        ]
        for batch, fit in search.trials
    ]
    return plain(["batch", "peak", "reserved", "needed", "verdict"], rows, words=[False, False, False, False, True])


def _remedies(options: Namespace, device: Device, blocks: list[str]) -> Iterator[str]:
    """Yield a table of what each change needs, each counted."""
    changes = list(_changes(options, blocks))
    if len(changes) > 1:
        together = {name: value for change in changes for name, value in change.options.items()}
        changes.append(Remedy("all of these", together))
    rows = []
    for change in changes:
        try:
            fit, _ = _count(_with(options, **change.options), device)
        except OpcountError as error:
            warn(f"{change.name} cannot be counted: {error}")
            continue
        cells = (fit.replay.requested, fit.replay.reserved, fit.needed)
        rows.append([change.name, *(f"{in_units(cell)}B" for cell in cells), fit.verdict])
    return plain(["change, counted", "peak", "reserved", "needed", "verdict"], rows, words=[True, *[False] * 3, True])


def _changes(options: Namespace, blocks: list[str]) -> Iterator[Remedy]:
    if options.train and options.checkpoint is None and blocks:
        yield Remedy(f"--checkpoint (of {as_pattern(blocks)})", {"checkpoint": _BLOCKS})
    if options.dtype not in {"bfloat16", "bf16", "float16", "fp16", "half"}:
        yield Remedy("--dtype bfloat16", {"dtype": "bfloat16"})
    if options.train and options.optimizer not in {"SGD", "none"}:
        yield Remedy("--optimizer SGD", {"optimizer": "SGD"})
    if options.batch_size is not None and options.batch_size > 1:
        yield Remedy(f"--batch-size {options.batch_size // 2}", {"batch_size": options.batch_size // 2})


def _with(options: Namespace, **changes: object) -> Namespace:
    return Namespace(**{**vars(options), **changes})


def _count(options: Namespace, device: Device) -> tuple[Fit, list[str]]:
    """Return what one way to run a target needs, and the paths of the blocks that the model repeats."""
    loaded, (fit, blocks), _ = attempt(options, partial(_fit, options, device))
    if loaded.note and loaded.note not in options.notes:
        options.notes.add(loaded.note)
        warn(loaded.note)
    return fit, blocks


def _fit(
    options: Namespace,
    device: Device,
    loaded: Loaded,
    dry: bool,  # noqa: FBT001  (see `attempt`)
) -> tuple[Fit, list[str]]:
    blocks = repeated_blocks(loaded.model)
    if options.checkpoint is not None:
        checkpoint_modules(loaded.model, matching(loaded.model, options.checkpoint) if options.checkpoint else blocks)
    predicted = device if dry and device.capability is not None and CAN_REDISPATCH else None
    loaded = with_labels(loaded) if options.train else loaded
    with (
        explained(options, loaded, dry=dry),
        torch.set_grad_enabled(options.train),
        OpCounter(loaded.model, dry_run=dry, memory="log", device=predicted) as counter,
    ):
        if options.train:
            training_step(loaded, options.optimizer or "AdamW", steps=_STEPS, loss_alone=True)
        else:
            forward(loaded)
    return counter.profile.fits(device), blocks
