"""A dry run in place of a real one, where it is sure to give the same numbers."""

from __future__ import annotations

import functools
import gc
import logging
import sys
import time
import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from opcount.compat.rewind import Snapshot
from opcount.compat.untouched import random_numbers_kept
from opcount.counter import OpCounter
from opcount.errors import DryRunError, UncountedOperatorWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.compat.inputs import Inputs
    from opcount.profile import Profile

_log = logging.getLogger("opcount")
_PRICED_BY_VALUES = ("grouped_mm", "varlen", "_flash_attention_forward", "_efficient_attention_forward", "roi_")
_LARGE = 100_000_000
"""Parameters of a model whose real run takes longer than it takes to import what fake tensors need."""

_PATIENCE = 1.0
"""Seconds of real runs that make up for that import."""

_CACHE = type(functools.lru_cache(len))
_told: set[str] = set()
_spent = 0.0


class Refusal(Exception):  # noqa: N818  (no error: a real run follows)
    """A dry run was not tried, or its numbers are not to be trusted.

    Attributes:
        loud: It was tried, and what follows takes longer than was hoped for.
    """

    def __init__(self, reason: str, *, loud: bool = False) -> None:
        super().__init__(reason)
        self.loud = loud


def dry_profile(model: nn.Module, inputs: Inputs) -> Profile:
    """Count a call of the model without computing; leave the model as it was.

    Raises:
        Refusal: A real run is to be made: nothing was changed, what a part of the forward did to the model is undone.
    """
    from opcount.dryrun.obstacles import obstacle  # noqa: PLC0415  (with all that fake tensors need)

    reason = obstacle(model, *inputs.args, *inputs.kwargs.values()) or _not_worth_it(model)
    if reason:
        raise Refusal(reason)
    snapshot = Snapshot(model)
    modes: list[weakref.ref[Any]] = []
    failure, profile = "", None
    try:
        profile = _attempt(model, inputs, modes)
        _check(profile, snapshot)
    except Exception as error:  # noqa: BLE001  (if it is the model's own, the real run raises it)
        failure = _reason(error)
        snapshot.rewind()
    snapshot.restore_modes()
    _leave_nothing(modes, snapshot, model)
    if profile is None or failure:
        raise Refusal(failure, loud=True)
    return profile


@contextmanager
def computed(refusal: Refusal | None) -> Iterator[None]:
    """Say that a run was real, and why, when it has succeeded: once for each reason."""
    global _spent  # noqa: PLW0603  (of the process, as the import is)
    start = time.perf_counter()
    yield
    _spent += time.perf_counter() - start
    if refusal is not None and refusal.loud and str(refusal) not in _told:
        _told.add(str(refusal))
        _log.warning("%s Computed instead.", refusal)


def _attempt(model: nn.Module, inputs: Inputs, modes: list[weakref.ref[Any]]) -> Profile:
    from opcount.dryrun.fakes import active_mode  # noqa: PLC0415  (with all that fake tensors need)

    with random_numbers_kept(nn.Module()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UncountedOperatorWarning)
        with OpCounter(model, dry_run=True) as counter:
            counter.pause()
            args, kwargs = _fake(inputs.args), _fake(inputs.kwargs)
            modes.append(weakref.ref(active_mode()))
            counter.resume()
            model(*args, **kwargs)
            del args, kwargs
    return counter.profile


def _fake(value: Any) -> Any:
    """Replace the tensors among arguments; an object that may hold some is not looked into, and refused."""
    if isinstance(value, Tensor):
        device = "cpu" if value.is_meta else value.device
        fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
        return fake.requires_grad_(value.requires_grad)
    if type(value) in (list, tuple):
        return type(value)(map(_fake, value))
    if type(value) is dict:
        return {key: _fake(item) for key, item in value.items()}
    if value is None or isinstance(value, (int, float, str, torch.dtype, torch.device)):
        return value
    raise DryRunError(f"dry run: an argument is a {type(value).__name__}, in which tensors may be hidden.")


def _check(profile: Profile, snapshot: Snapshot) -> None:
    if snapshot.has_new_modules():
        raise DryRunError("dry run: forward changed which modules the model has.")
    if profile.coverage.uncounted:
        raise DryRunError(f"dry run: {next(iter(profile.coverage.uncounted))} shows what it computes when it computes.")
    for record in profile.records:
        if record.family == "sparse" or any(name in record.operator for name in _PRICED_BY_VALUES):
            raise DryRunError(f"dry run: the price of {record.operator} depends on values.")


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, DryRunError) else f"dry run: {type(error).__name__}: {error}"
    return text.split("\n", 1)[0].rstrip(".") + "."


def _not_worth_it(model: nn.Module) -> str:
    """Tell whether importing what fake tensors need would take longer than to compute; it is done once a process."""
    if "torch._dynamo" in sys.modules or _spent > _PATIENCE:
        return ""
    parameters = list(model.parameters())
    if any(p.is_meta for p in parameters) or sum(p.numel() for p in parameters) > _LARGE:
        return ""
    return "the first dry run takes longer than this run"


def _leave_nothing(modes: list[weakref.ref[Any]], snapshot: Snapshot, model: nn.Module) -> None:
    """Take away fake tensors that the model put where it will find them again: attributes of helpers, caches."""
    if not _alive(modes) or _collected(modes):
        return
    snapshot.rewind()
    for cache in gc.get_objects():
        if type(cache) is _CACHE and _holds_fake(cache):
            cache.cache_clear()
    gc.collect()
    if _alive(modes):
        _log.warning("dry run: %s put tensors that have no values where they stay.", type(model).__name__)


def _collected(modes: list[weakref.ref[Any]]) -> bool:
    """Tell whether garbage was all that held fake tensors; they are young, and to look at all objects takes long."""
    for generation in range(3):
        gc.collect(generation)
        if not _alive(modes):
            return True
    return False


def _alive(modes: list[weakref.ref[Any]]) -> bool:
    """Tell whether a fake tensor is left: each of them holds its mode, and nothing else does."""
    return any(mode() is not None for mode in modes)


def _holds_fake(cache: object) -> bool:
    held = gc.get_referents(cache)
    return any(hasattr(value, "fake_mode") for value in [*held, *gc.get_referents(*held)])
