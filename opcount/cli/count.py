"""``opcount count TARGET``."""

from __future__ import annotations

import inspect
import os
import shlex
import subprocess
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import opcount
from opcount.cli.attempt import NeedsNewProcessError, attempt
from opcount.cli.formats import device_of_memory, render, show_totals, wants_memory
from opcount.cli.output import warn, write
from opcount.counter import OpCounter
from opcount.errors import DryRunError, InputError, OpcountError, UncountedOperatorWarning
from opcount.loaders import blame
from opcount.loaders.generation import Generation
from opcount.loaders.input_tensors import input_text
from opcount.loaders.step import forward, training_step
from opcount.model_inputs import Arguments
from opcount.records import ASSUMED, BATCH, COMMAND
from opcount.structure import structure_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from torch import nn

    from opcount.loaders import Loaded
    from opcount.profile import Profile


def run(options: argparse.Namespace) -> int:
    """Load, count, print."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a count needs no weights: nothing is to be fetched
    check_optimizer(options)
    if options.kernels and options.dry_run is not False:
        raise InputError("--kernels: expected it beside --real, for a dry run allocates nothing. Add --real.")
    generation = Generation.of(options)
    if generation is not None:
        options.seq, options.seq_option = generation.tokens, generation.option
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():  # what a model prints is no part of the report
            warnings.simplefilter("ignore", UncountedOperatorWarning)  # the report says it
            loaded, profile, reason = attempt(options, partial(_count, options, generation))
    except NeedsNewProcessError as why:
        return _in_new_process(options, str(why))
    for message in filter(None, (loaded.note, reason)):
        warn(message)
    profile = replace(profile, provenance={**profile.provenance, **_facts(options, loaded)})
    write(render(profile, options, partial(structure_of, loaded.model)), options.output)
    show_totals(profile, options)
    return 0


def _count(
    options: argparse.Namespace,
    generation: Generation | None,
    loaded: Loaded,
    dry: bool,  # noqa: FBT001  (see `attempt`)
) -> Profile:
    before = _names(loaded.model)
    device = device_of_memory(options, dry=dry)
    with explained(options, loaded, dry=dry):
        if generation is not None:
            return generation.count(loaded, dry=dry, memory=wants_memory(options), device=device)
        with (
            torch.set_grad_enabled(options.train),
            OpCounter(loaded.model, dry_run=dry, memory=wants_memory(options), device=device) as counter,
        ):
            if options.train:
                training_step(loaded, options.optimizer or "AdamW")
            else:
                forward(loaded)
            if dry:
                _check_grown(loaded.model, before)
    return counter.profile


@contextmanager
def explained(options: argparse.Namespace, loaded: Loaded, *, dry: bool) -> Iterator[None]:
    """Raise what a model raises inside the block as an error of the command's input, with the option to look at."""
    try:
        yield
    except OpcountError:
        raise
    except (Exception, SystemExit) as error:
        if line := _complete(options, loaded, error):
            raise InputError(f"the model raised {blame(error, loaded.model).rstrip('.')}. Say all: {line}") from error
        hint = " Say what it takes with --shape or --input" if not options.input else " Check --input"
        if len(options.shape) > 3:  # a whole shape as other tools take it
            hint = f" --shape leaves out the batch, such as {'x'.join(map(str, options.shape[1:]))}: check it"
        hint += ", or compute it with --real." if dry else "."
        raise InputError(f"the model raised {blame(error, loaded.model).rstrip('.')}.{hint}") from error


def _complete(options: argparse.Namespace, loaded: Loaded, error: BaseException) -> str:
    """Return a command line with all inputs that the model's forward requires; empty if none is missing."""
    if not isinstance(error, TypeError) or "missing" not in str(error):
        return ""
    args, kwargs = Arguments.of(loaded.inputs)
    try:
        parameters = inspect.signature(loaded.model.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [each for each in parameters if each.kind not in variadic]
    given = {**dict(zip((each.name for each in named), args, strict=False)), **kwargs}
    missing = [each.name for each in named if each.default is each.empty and each.name not in given]
    texts = {name: input_text(value) for name, value in given.items() if isinstance(value, torch.Tensor)}
    like = next(iter(texts.values()), "1x3x224x224:float32")
    pairs = {**texts, **dict.fromkeys(missing, like)}
    words = ["opcount", options.name, options.target, *(f"--input {name}={text}" for name, text in pairs.items())]
    return " ".join([*words[:2], shlex.quote(options.target), *words[3:]]) if missing else ""


def _facts(options: argparse.Namespace, loaded: Loaded) -> dict[str, str]:
    """Return what the command line knows of a count better than the counter, which may have run a copy on meta."""
    facts = {"device": options.device, COMMAND: shlex.join(["opcount", *options.command_line])}
    if loaded.assumed:
        facts[ASSUMED] = loaded.assumed
    if loaded.batch is not None:
        facts[BATCH] = str(loaded.batch)
    return facts


def _names(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}


def _check_grown(model: nn.Module, before: set[str]) -> None:
    """Refuse to report a model without the parameters that its forward made, which go when a dry run ends."""
    if new := _names(model) - before:
        raise DryRunError(f"dry run: {min(new)} is made by the forward of the model, and goes when the run ends.")


def _in_new_process(options: argparse.Namespace, reason: str) -> int:
    """Compute in a process that holds no tensors of a dry attempt."""
    name, *arguments = options.command_line
    paths = [str(Path(opcount.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "opcount", name, "--real", *arguments]
    if sys.stdout is not None:
        sys.stdout.flush()
    status = subprocess.run(command, check=False, env=environment).returncode  # noqa: S603  (this program)
    if status == 0:
        warn(reason)
    return status


def check_optimizer(options: argparse.Namespace) -> None:
    """Refuse an optimizer that torch.optim does not have, or one that has no step."""
    known = [name for name, value in vars(torch.optim).items() if isinstance(value, type) and name != "Optimizer"]
    if options.optimizer not in (*known, "none", None):
        raise InputError(
            f"--optimizer: expected none or a class of torch.optim ({', '.join(sorted(known))}), "
            f"got {options.optimizer!r}."
        )
    if options.optimizer is not None and not options.train:
        raise InputError(f"--optimizer: expected it beside --train, got {options.optimizer!r} alone. Add --train.")
