"""Running what was loaded: forward, or a whole training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from opcount.loaders.loaded import Loaded


def forward(loaded: Loaded) -> Any:
    """Call the model with its inputs."""
    inputs = loaded.inputs
    if isinstance(inputs, dict):
        return loaded.model(**inputs)
    return loaded.model(*(inputs if isinstance(inputs, tuple) else (inputs,)))


def backward(outputs: Any) -> None:
    """Run backward from every tensor among a model's outputs that has a gradient.

    Raises:
        InputError: None has one.
    """
    found = [tensor for tensor in tensors(outputs) if tensor.requires_grad]
    if not found:
        raise InputError("train: expected an output with a gradient, got none. Count forward alone, without --train.")
    torch.autograd.backward(found, [torch.ones_like(tensor) for tensor in found])


def training_step(loaded: Loaded, optimizer: str = "AdamW") -> None:
    """Run forward, backward, and one step of an optimizer of torch's, by its class's name."""
    backward(forward(loaded))
    parameters = [p for p in loaded.model.parameters() if p.requires_grad]
    if parameters and optimizer != "none":
        getattr(torch.optim, optimizer)(parameters, lr=0.0).step()


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples, dicts and objects with attributes."""
    if hasattr(value, "requires_grad"):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from tensors(vars(value))
