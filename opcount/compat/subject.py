"""The model that an analysis runs: the caller's own, preserved, or a skeleton of it."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

from opcount.compat.preserve import preserved, preserved_random_state
from opcount.structure import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.dryrun import Disposable, DryRun


_NEVER_CALLED = (nn.ModuleList.forward, nn.ModuleDict.forward, nn.Module.forward, nn.Identity.forward)


def is_meant_to_be_called(module: nn.Module) -> bool:
    """Return whether a call of the module would do something: not of containers, nor of an identity."""
    return inspect.getattr_static(type(module), "forward", None) not in _NEVER_CALLED  # a scripted module has none


def runs_dry(model: nn.Module, dry_run: bool | None) -> bool:  # noqa: FBT001  (an answer that may be missing)
    """Decide whether an analysis is a dry run: as it was asked for, else where parameters are on the meta device.

    Example:
        >>> runs_dry(nn.Linear(2, 2), None), runs_dry(nn.Linear(2, 2, device="meta"), None)
        (False, True)
    """
    return any(parameter.is_meta for parameter in model.parameters()) if dry_run is None else dry_run


def skeleton_of(model: nn.Module) -> Disposable:
    """Return a copy of the model without its data, to run dry once.

    Raises:
        DryRunError: A part of the model has none.
    """
    from opcount.dryrun import disposable_skeleton  # noqa: PLC0415  (fake tensors take a second to import)

    return disposable_skeleton(model)


def reported(model: nn.Module, ran: nn.Module) -> nn.Module:
    """Return the model whose modules and parameters a report lists: of a skeleton, those that its forward made, too.

    They go when the dry run ends, so it is to be asked for before.
    """
    if ran is model:
        return model
    grown = any(map(is_lazy, model.parameters())) or any(
        [name for name, _ in listed(model)] != [name for name, _ in listed(ran)]
        for listed in (walk, nn.Module.named_parameters)
    )
    return skeleton_of(ran).model if grown else model


@contextmanager
def left_alone(model: nn.Module, *tensors: object, dry: bool) -> Iterator[None]:
    """Undo, on leaving, what a run of the model changes: of a skeleton, only what lies outside of it."""
    with preserved_random_state(nn.Module()) if dry else preserved(model, *tensors):
        yield


@contextmanager
def without_computing(skeleton: Disposable, where: Callable[[], str | None]) -> Iterator[DryRun]:
    """Run a skeleton dry.

    Args:
        skeleton: Used for nothing else afterwards.
        where: Returns the path of the running module, for errors.

    Raises:
        DryRunError: An operator needs values.
    """
    from opcount.dryrun import dry_run  # noqa: PLC0415  (fake tensors take a second to import)

    with dry_run(skeleton, where) as dry:
        yield dry
