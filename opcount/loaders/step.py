"""Running what was loaded: forward, or a whole training step."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError, OpcountError
from opcount.model_inputs import Arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from opcount.loaders.request import Loaded


_RATE = sys.float_info.min
"""Too small to change a parameter; some optimizers refuse a learning rate of 0."""


def forward(loaded: Loaded) -> Any:
    """Call the model with its inputs."""
    args, kwargs = Arguments.of(loaded.inputs)
    return loaded.model(*args, **kwargs)


def with_labels(loaded: Loaded) -> Loaded:
    """Return a language model of transformers with its tokens as labels, of which it makes a loss; else the same."""
    inputs = loaded.inputs
    is_named = type(loaded.model).__name__.endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM"))
    if not is_named or not isinstance(inputs, dict) or "input_ids" not in inputs or "labels" in inputs:
        return loaded
    if "labels" not in inspect.signature(loaded.model.forward).parameters:
        return loaded
    return replace(loaded, inputs={**inputs, "labels": inputs["input_ids"]})


def backward(outputs: Any, *, loss_alone: bool = False) -> None:
    """Run backward from every tensor among a model's outputs that has a gradient, or from its loss alone.

    Raises:
        InputError: None has one.
    """
    loss = getattr(outputs, "loss", None) if loss_alone else None
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        outputs = loss
    found = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad]
    if not found:
        raise InputError("train: expected an output with a gradient, got none. Count forward alone, without --train.")
    torch.autograd.backward(found, [torch.ones_like(tensor) for tensor in found])


def training_step(loaded: Loaded, optimizer: str = "AdamW", *, steps: int = 1, loss_alone: bool = False) -> None:
    """Run forward, backward, and one step of an optimizer of torch's, by its class's name.

    One that runs forward and backward itself (LBFGS) does so once.

    Args:
        loaded: Model and inputs.
        optimizer: The class's name, or ``"none"``.
        steps: How often all of that is run; gradients are set to None in between.
        loss_alone: Whether backward begins at the loss alone where the model returns one.

    Raises:
        InputError: The optimizer does not train such parameters, or not with such gradients.
    """
    parameters = [p for p in loaded.model.parameters() if p.requires_grad]
    stepper = None if optimizer == "none" else _optimizer(optimizer, parameters)
    for step in range(steps):
        if step:
            loaded.model.zero_grad()
        if stepper is None:
            backward(forward(loaded), loss_alone=loss_alone)
        elif _runs_forward(stepper):
            stepper.step(partial(_loss, loaded))
        else:
            backward(forward(loaded), loss_alone=loss_alone)
            with _explained(optimizer):
                stepper.step()


def _optimizer(name: str, parameters: list[Any]) -> Any:
    """Return an optimizer that leaves parameters as they are; None if there are none."""
    if not parameters:
        return None
    kind = getattr(torch.optim, name)
    once = {"max_iter": 1} if "max_iter" in inspect.signature(kind).parameters else {}
    with _explained(name):
        return kind(parameters, lr=_RATE, **once)


def _runs_forward(optimizer: Any) -> bool:
    """Return whether a step needs a function that runs forward and backward."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _loss(loaded: Loaded) -> Tensor:
    """Run forward and backward; return a loss for an optimizer that compares losses."""
    backward(forward(loaded))
    return torch.zeros(())


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise what an optimizer refuses as an error of the command's input."""
    try:
        yield
    except OpcountError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        why = str(error).rstrip(".")
        raise InputError(
            f"train: expected an optimizer that trains this model, got {name}: {why}. Choose another --optimizer."
        ) from error


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples, dicts and objects with attributes."""
    if hasattr(value, "requires_grad"):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from tensors_in(vars(value))
