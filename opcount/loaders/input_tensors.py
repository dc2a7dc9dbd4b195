"""Input shapes, and inputs of these shapes that fit a model's parameters."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch

from opcount.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from opcount.loaders.request import Inputs, Request

IMAGE = (3, 224, 224)
"""The input of a model that says nothing of its own."""

_LARGE = 1 << 16
"""Elements of an input whose values no dry run keeps."""


def image_shape(sizes: Sequence[int], default: tuple[int, ...] = IMAGE) -> tuple[int, ...]:
    """Return the shape that one, two or more sizes stand for.

    As many sizes as ``default`` has dimensions replace it; otherwise one size is height and width, two are height and
    width, after the channels of ``default``.

    Example:
        >>> image_shape([256]), image_shape([480, 640]), image_shape([1, 28, 28]), image_shape([])
        ((3, 256, 256), (3, 480, 640), (1, 28, 28), (3, 224, 224))
    """
    if not sizes:
        return default
    if len(sizes) == len(default) or len(sizes) > 2:
        return tuple(sizes)
    channels = default[0] if len(default) == len(IMAGE) else IMAGE[0]
    return (channels, sizes[0], sizes[-1])


def check_shape(shape: object, who: str) -> tuple[int, ...]:
    """Return the shape as a tuple of positive whole numbers.

    Raises:
        InputError: It is something else.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise InputError(
            f"{who}: expected an input shape of positive whole numbers without the batch, such as (3, 224, 224), "
            f"got {shape!r} of type {type(shape).__name__}. Give the shape of one sample."
        )
    return sizes


def random_inputs(model: nn.Module, shapes: Sequence[tuple[int, ...]], request: Request) -> Inputs:
    """Return one random tensor for each shape, with the batch before it."""
    tensors = tuple(random_input(model, (request.samples, *shape), request) for shape in shapes)
    return tensors[0] if len(tensors) == 1 else tensors


def random_input(model: nn.Module, shape: tuple[int, ...], request: Request) -> Tensor:
    """Return a random tensor of this shape, batch included."""
    return suited(torch.rand(shape, device=home(shape, request)), model)


def suited(tensor: Tensor, model: nn.Module) -> Tensor:
    """Return a floating-point tensor in the dtype of the model's first floating-point parameter.

    A model without one leaves the dtype as it is.
    """
    for weight in itertools.chain(model.parameters(), model.buffers()):
        if weight.is_floating_point() or weight.is_complex():
            return tensor.to(weight.dtype)
    return tensor


def ones(shape: tuple[int, ...], request: Request, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return a tensor of ones."""
    return torch.ones(shape, dtype=dtype, device=home(shape, request))


def home(shape: tuple[int, ...], request: Request) -> str:
    """Return the device that an input is made on: values that a dry run has no use for are not made."""
    return "meta" if request.hollow and math.prod(shape) > _LARGE else request.device


def described(inputs: Inputs) -> object:
    """Return inputs with the shapes of tensors in their places."""
    if isinstance(inputs, dict):
        return {name: _shape(value) for name, value in inputs.items()}
    return _shape(inputs) if isinstance(inputs, torch.Tensor) else tuple(map(_shape, inputs))


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value
