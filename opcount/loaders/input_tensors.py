"""Shapes of images, and input tensors that suit a request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from opcount.model_inputs import dtype_and_device, random_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from opcount.loaders.request import Inputs, Request

IMAGE = (3, 224, 224)
"""Default input, of a model that declares none."""

_LARGE = 1 << 16
"""Elements from which on a dry run has no use for the values of an input."""


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


def random_batch(model: nn.Module, shape: tuple[int, ...], request: Request) -> Tensor:
    """Return a random tensor for a shape without the batch."""
    return random_input(model, (request.samples, *shape), request)


def random_input(model: nn.Module, shape: tuple[int, ...], request: Request) -> Tensor:
    """Return a random tensor of a dtype that suits the model's parameters."""
    return random_tensor(shape, dtype_and_device(model)[0], home(shape, request))


def ones(shape: tuple[int, ...], request: Request, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return a tensor of ones."""
    return torch.ones(shape, dtype=dtype, device=home(shape, request))


def home(shape: tuple[int, ...], request: Request) -> str:
    """Return the device that an input is made on: ``meta`` for values that a dry run does not use."""
    return "meta" if request.hollow and math.prod(shape) > _LARGE else request.device


def input_text(tensor: Tensor) -> str:
    """Return what ``--input`` takes for a tensor like this one.

    Example:
        >>> input_text(torch.ones(1, 3, dtype=torch.int64)), input_text(torch.tensor(1.0))
        ('1x3:int64', 'scalar:float32')
    """
    return f"{'x'.join(map(str, tensor.shape)) or 'scalar'}:{str(tensor.dtype).removeprefix('torch.')}"


def described(inputs: Inputs) -> object:
    """Return inputs with the shapes of tensors in their places."""
    if isinstance(inputs, dict):
        return {name: _shape(value) for name, value in inputs.items()}
    return _shape(inputs) if isinstance(inputs, torch.Tensor) else tuple(map(_shape, inputs))


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value
