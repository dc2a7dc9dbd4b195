"""Labels of what a tracker holds: what storages are for shows in what programs do with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from opcount._torch.modules import buffers_of, modules_of, parameters_of
from opcount.identity import identity
from opcount.live_memory import (
    BUFFERS,
    GRADIENTS,
    OPTIMIZER_STATE,
    OUTPUTS,
    PARAMETERS,
    SAVED,
    TEMPORARIES,
)
from opcount.memory.tracker import VAGUE
from opcount.scope import BACKWARD, OPTIMIZER, RECOMPUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.optim import Optimizer

    from opcount.memory.tracker import Tracker
    from opcount.scope.module_names import ModuleNames

_AFTER_FORWARD = {BACKWARD, RECOMPUTE, OPTIMIZER}

_DEPTH = 6
"""Levels of containers in which the tensors of a model's result are looked for."""


def hold_weights(tracker: Tracker, names: ModuleNames) -> None:
    """Account the parameters, gradients and buffers of the model, which are there before anything runs."""
    for path, tensor, category in _weights(names):
        tracker.elder(tensor, path, category)
        tracker.add_leaf(tensor)


def label_weights(tracker: Tracker, names: ModuleNames) -> None:
    """Label the weights that have got other memory since."""
    for path, tensor, category in _weights(names):
        if not tracker.has_category(tensor):
            _label(tracker, tensor, path, category)


def label_saved(tracker: Tracker, roots: Iterable[Any]) -> None:
    """Label what forward has made and is alive when a backward begins, but for the tensors that it begins with."""
    for root in roots:
        if isinstance(root, Tensor):
            _label(tracker, root, None, OUTPUTS)
    for held in list(tracker.held.values()):
        _, _, phase, category = held.row.key
        if category == TEMPORARIES and phase not in _AFTER_FORWARD:
            tracker.move(held, None, SAVED)
    for ledger in list(tracker.ledgers.values()):
        ledger.note(SAVED)


def label_gradients(tracker: Tracker, names: ModuleNames) -> None:
    """Label the gradients that a backward has set."""
    for leaf in tracker.leaves():
        gradient = leaf.grad
        if gradient is not None and not tracker.has_category(gradient):
            _label(tracker, gradient, names.owner_of(leaf) or None, GRADIENTS)


def label_outputs(tracker: Tracker, out: Any) -> None:
    """Label what the caller of a model gets."""
    for tensor in _tensors_in(out, _DEPTH):
        _label(tracker, tensor, None, OUTPUTS)


def label_state(tracker: Tracker, names: ModuleNames, optimizer: Optimizer, *, before: bool) -> None:
    """Label the state of an optimizer.

    Args:
        tracker: Holds it.
        names: Know which module owns a parameter.
        optimizer: Is about to step, or has stepped.
        before: Whether it is about to: what is not known then has been alive from the start.
    """
    for parameter, state in list(optimizer.state.items()):
        if type(state) is dict and all(map(tracker.has_category, state.values())):  # as from the second step on
            continue
        owner = names.owner_of(parameter) or None if isinstance(parameter, Tensor) else None
        for tensor in _tensors_in(state, _DEPTH):
            if before and not tracker.known(tensor):
                tracker.elder(tensor, owner or "", OPTIMIZER_STATE)
            else:
                _label(tracker, tensor, owner, OPTIMIZER_STATE)


def _weights(names: ModuleNames) -> Iterator[tuple[str, Tensor, str]]:
    """Yield the parameters, gradients and buffers of the model, each with its owner and its category."""
    for module in () if names.model is None else modules_of(names.model):
        path = names.paths.get(identity(module), "")
        for parameter in parameters_of(module).values():
            if parameter is not None:
                yield path, parameter, PARAMETERS
                if parameter.grad is not None:
                    yield path, parameter.grad, GRADIENTS
        for buffer in buffers_of(module).values():
            if buffer is not None:
                yield path, buffer, BUFFERS


def _label(tracker: Tracker, tensor: Tensor, place: str | None, category: str) -> None:
    for held in tracker.known(tensor):
        if held.row.key[3] in VAGUE:
            tracker.move(held, place, category)


def _tensors_in(value: Any, depth: int) -> Iterator[Tensor]:
    """Yield the tensors in a container, or in the attributes of an object such as a cache."""
    if isinstance(value, Tensor):
        yield value
    elif depth and not isinstance(value, (nn.Module, str, bytes, type)):
        inside: Iterable[Any] = ()
        if isinstance(value, Mapping):
            inside = list(value.values())
        elif isinstance(value, (list, tuple, set)):
            inside = list(value)
        elif type(value).__module__ != "builtins":
            inside = list(getattr(value, "__dict__", {}).values())
        for item in inside:
            if isinstance(item, Tensor):  # most are, and a generator for each takes longer than the rest
                yield item
            else:
                yield from _tensors_in(item, depth - 1)
