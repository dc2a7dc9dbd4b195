"""Counting a target: dry where that is possible, else for real."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import torch

from opcount.cli.progress import progress
from opcount.counter import OpCounter
from opcount.errors import DryRunError, InputError, OpcountError
from opcount.loaders import blame, load
from opcount.loaders.blame import brief, line_of
from opcount.loaders.request import Request
from opcount.loaders.step import forward, training_step

if TYPE_CHECKING:
    import argparse

    from torch import nn

    from opcount.loaders import Loaded
    from opcount.profile import Profile

_PLAIN = {torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.Tensor)}
_REMEDY = " Count a real run"
"""Where an error begins to say what to do, which is done here."""

_LAZY = (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer)


class NeedsNewProcessError(Exception):
    """A dry attempt left tensors without values where a real one would find them."""


def count(options: argparse.Namespace) -> tuple[Loaded, Profile, str]:
    """Count without computing; compute where that is not possible, unless a dry run was insisted on.

    Returns:
        The target's model and inputs, what was counted, and why it was computed: empty if it was not, or was meant to.

    Raises:
        NeedsNewProcessError: With the reason, if it is not possible to compute in this process.
    """
    if options.dry_run is False:
        return *_real(options), ""
    gc.freeze()  # what is here already is not looked at again
    try:
        found = _dry(options)
        if not isinstance(found, str):
            return *found, ""
        if _is_valueless_left():
            raise NeedsNewProcessError(found)
    finally:
        gc.unfreeze()
    return *_real(options), found


def _real(options: argparse.Namespace) -> tuple[Loaded, Profile]:
    return _Attempt(options, dry=False).run()


def _dry(options: argparse.Namespace) -> tuple[Loaded, Profile] | str:
    """Return what a dry run counted, or why a real one is to follow."""
    attempt = _Attempt(options, dry=True)
    try:
        return attempt.run()
    except (Exception, SystemExit) as error:
        nothing_ran = attempt.loaded is None and isinstance(error, OpcountError) and error.__cause__ is None
        if options.dry_run or nothing_ran or not attempt.can_be_computed():
            raise
        return f"{_reason(error, attempt.loaded)} Computing instead."


class _Attempt:
    """One way to count a target."""

    def __init__(self, options: argparse.Namespace, *, dry: bool) -> None:
        self._options = options
        self._dry = dry
        self.loaded: Loaded | None = None

    def run(self) -> tuple[Loaded, Profile]:
        """Load the target, and run it under a counter."""
        with progress(f"building {self._options.target}"):
            loaded = self.loaded = self._load()
        with progress(f"counting {self._options.target}"):
            if self._dry:
                loaded = self.loaded = _hollow(loaded)
            return loaded, self._profile(loaded)

    def can_be_computed(self) -> bool:
        """Tell whether the weights of what was loaded have room in this machine's memory."""
        if self.loaded is None or not hasattr(os, "sysconf"):
            return True
        model = self.loaded.model
        tensors = [t for t in chain(model.parameters(), model.buffers()) if not isinstance(t, _LAZY)]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return size < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def _load(self) -> Loaded:
        options = self._options
        return load(options.target, Request.of(options, hollow=self._dry and options.device == "cpu"))

    def _profile(self, loaded: Loaded) -> Profile:
        options = self._options
        before = _names(loaded.model)
        try:
            with torch.set_grad_enabled(options.train), OpCounter(loaded.model, dry_run=self._dry) as counter:
                if options.train:
                    training_step(loaded, options.optimizer or "AdamW")
                else:
                    forward(loaded)
                if self._dry:
                    _check_grown(loaded.model, before)
        except OpcountError:
            raise
        except (Exception, SystemExit) as error:
            hint = " Say what it takes with --shape or --input" if not options.input else " Check --input"
            hint += ", or compute it with --real." if self._dry else "."
            raise InputError(f"the model raised {blame(error, loaded.model).rstrip('.')}.{hint}") from error
        return counter.profile


def _names(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}


def _check_grown(model: nn.Module, before: set[str]) -> None:
    """Refuse to report a model without the parameters that its forward made, which go when a dry run ends."""
    if new := _names(model) - before:
        raise DryRunError(f"dry run: {min(new)} is made by the forward of the model, and goes when the run ends.")


def _hollow(loaded: Loaded) -> Loaded:
    """Return a copy of what was loaded whose weights have no data.

    Raises:
        DryRunError: The model has weights of a class or layout that computes in a way of its own, or without a shape.
    """
    from opcount.dryrun import skeleton  # noqa: PLC0415  (fake tensors take a second to import)

    for name, tensor in chain(loaded.model.named_parameters(), loaded.model.named_buffers()):
        if isinstance(tensor, _LAZY):
            raise DryRunError(f"dry run: {name} has no shape before a call of the model gives it one.")
        if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
            raise DryRunError(
                f"dry run: {name} is a {type(tensor).__name__} of {tensor.dtype} in the {tensor.layout} layout, which "
                "computes in a way of its own."
            )
    return replace(loaded, model=skeleton(loaded.model))


def _reason(error: BaseException, loaded: Loaded | None) -> str:
    """Return in one line why a dry run failed, with the line of the program where it did."""
    model: nn.Module | None = loaded.model if loaded is not None else None
    cause = error if isinstance(error, DryRunError) or error.__cause__ is None else error.__cause__
    if not isinstance(cause, DryRunError):
        return f"dry run: {blame(cause, model)}".rstrip(".") + "."
    text, line = brief(str(cause)).partition(_REMEDY)[0], line_of(cause, model)
    return text if not line or line in text else f"{text.rstrip('.')} ({line})."


def _is_valueless_left() -> bool:
    """Tell whether a new tensor without values is alive: a cache of the program may hold it for the next who asks."""
    gc.collect()
    tensors = (each for each in gc.get_objects() if issubclass(type(each), torch.Tensor))
    return any(tensor.is_meta or hasattr(tensor, "fake_mode") for tensor in tensors)
