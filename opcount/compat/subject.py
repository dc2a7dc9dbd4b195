"""The model that an analysis runs: the caller's own, to be left as it was, or a skeleton in its place."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parameter import is_lazy

from opcount.compat.structure import walk
from opcount.compat.untouched import random_numbers_kept, untouched
from opcount.counter import OpCounter
from opcount.errors import UncountedOperatorWarning

if TYPE_CHECKING:
    from collections.abc import Iterator


def runs_dry(model: nn.Module, dry_run: bool | None) -> bool:  # noqa: FBT001  (an answer that may be missing)
    """Decide whether an analysis is a dry run: as it was asked for, else where parameters are on the meta device.

    Example:
        >>> runs_dry(nn.Linear(2, 2), None), runs_dry(nn.Linear(2, 2, device="meta"), None)
        (False, True)
    """
    return any(parameter.is_meta for parameter in model.parameters()) if dry_run is None else dry_run


class _Call(nn.Module):
    """A call of a model that has not been made yet."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.args = args
        self.kwargs = kwargs


def skeleton_of(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """Return copies of the model and its arguments without their data.

    Raises:
        DryRunError: A part of the model has none.
    """
    from opcount.dryrun import skeleton  # noqa: PLC0415  (fake tensors take a second to import)

    call = skeleton(_Call(model, args, kwargs))
    return call.model, call.args, call.kwargs


def reported(model: nn.Module, ran: nn.Module) -> nn.Module:
    """Return the model whose modules and parameters a report lists: the skeleton where its forward made some."""
    if any(map(is_lazy, model.parameters())) or not all(
        [name for name, _ in listed(model)] == [name for name, _ in listed(ran)]
        for listed in (walk, nn.Module.named_parameters)
    ):
        return ran
    return model


@contextmanager
def left_alone(model: nn.Module, *tensors: object, dry: bool) -> Iterator[None]:
    """Undo, on leaving, what a run of the model changes: of a skeleton, only what lies outside of it."""
    with random_numbers_kept(nn.Module()) if dry else untouched(model, *tensors):
        yield


@contextmanager
def without_computing(model: nn.Module) -> Iterator[None]:
    """Run a skeleton dry.

    Raises:
        DryRunError: An operator needs values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncountedOperatorWarning)  # whoever counts says it
        with OpCounter(model, dry_run=True):
            yield
