"""Counting a target: dry where that is possible, else for real."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch.nn.parameter import is_lazy

from opcount.cli.progress import progress
from opcount.errors import DryRunError, OpcountError
from opcount.loaders import Request, blame, load
from opcount.loaders.blame import brief, line_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import nn

    from opcount.loaders import Loaded

Count = TypeVar("Count")

_PLAIN = {torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.Tensor)}
_REMEDY = " Count a real run"
"""Beginning of the advice in an error that `attempt` follows itself."""


_COLLECTIONS = 3
"""Times that garbage is collected: a tensor lets go of its Python attributes only after it was itself collected."""


class NeedsNewProcessError(Exception):
    """A dry attempt left tensors without values where a real one would find them."""


def attempt(
    options: argparse.Namespace,
    count: Callable[[Loaded, bool], Count],
    announce: Callable[[str], AbstractContextManager[object]] = progress,
) -> tuple[Loaded, Count, str]:
    """Count a target without computing; compute where that is not possible, unless a dry run was insisted on.

    Args:
        options: Command line: ``target``, ``dry_run`` (None: dry where possible), and the fields of a `Request`.
        count: Runs what was loaded under a counter; its second argument says whether to run dry.
        announce: Returns a context manager around a step that may take long.

    Returns:
        The target's model and inputs, the result of ``count``, and why it was computed: empty if it was not, or was
        meant to.

    Raises:
        NeedsNewProcessError: With the reason, if it is not possible to compute in this process.
    """
    if options.dry_run is False:
        return *_Attempt(options, count, announce, dry=False).run(), ""
    gc.freeze()  # objects that exist already are not looked at again
    try:
        found = _dry(_Attempt(options, count, announce, dry=True), insist=options.dry_run is True)
        if not isinstance(found, str):
            return *found, ""
        if _is_valueless_left():
            raise NeedsNewProcessError(found)
    finally:
        gc.unfreeze()
    return *_Attempt(options, count, announce, dry=False).run(), found


class _Attempt(Generic[Count]):
    """One way to count a target."""

    def __init__(
        self,
        options: argparse.Namespace,
        count: Callable[[Loaded, bool], Count],
        announce: Callable[[str], AbstractContextManager[object]],
        *,
        dry: bool,
    ) -> None:
        self._target = options.target
        self._request = Request.of(options, hollow=dry and options.device == "cpu")
        self._count = count
        self._announce = announce
        self._dry = dry
        self.loaded: Loaded | None = None

    def run(self) -> tuple[Loaded, Count]:
        """Load the target, and run it under a counter."""
        with self._announce(f"building {self._target}"):
            loaded = self.loaded = load(self._target, self._request)
        with self._announce(f"counting {self._target}"):
            if self._dry:
                loaded = self.loaded = _hollow(loaded)
            return loaded, self._count(loaded, self._dry)

    def can_be_computed(self) -> bool:
        """Return whether the weights of what was loaded have room in this machine's memory."""
        if self.loaded is None or not hasattr(os, "sysconf"):
            return True
        model = self.loaded.model
        tensors = [t for t in chain(model.parameters(), model.buffers()) if not is_lazy(t)]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return size < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _dry(attempt: _Attempt[Count], *, insist: bool) -> tuple[Loaded, Count] | str:
    """Return what a dry run counted, or why a real one is to follow."""
    try:
        return attempt.run()
    except (Exception, SystemExit) as error:
        nothing_ran = attempt.loaded is None and isinstance(error, OpcountError) and error.__cause__ is None
        if insist or nothing_ran or not attempt.can_be_computed():
            raise
        return f"{_reason(error, attempt.loaded)} Computing instead."


def _hollow(loaded: Loaded) -> Loaded:
    """Return a copy of what was loaded whose weights have no data.

    Raises:
        DryRunError: The model has weights of a class or layout that computes in a way of its own, or without a shape.
    """
    from opcount.dryrun import skeleton  # noqa: PLC0415  (fake tensors take a second to import)

    for name, tensor in chain(loaded.model.named_parameters(), loaded.model.named_buffers()):
        if is_lazy(tensor):
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
    """Return whether a new tensor without values is alive: a cache of the program may return it in a real run."""
    for _ in range(_COLLECTIONS):
        gc.collect()
    tensors = (each for each in gc.get_objects() if issubclass(type(each), torch.Tensor))
    return any(tensor.is_meta or hasattr(tensor, "fake_mode") for tensor in tensors)
