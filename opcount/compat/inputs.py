"""What a model is called with, made of what the caller gave: tensors as they are, or shapes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount.compat.preserve import preserved_random_state
from opcount.errors import InputError

if TYPE_CHECKING:
    from torch import nn

_WHO = "get_model_complexity_info"


class Inputs(NamedTuple):
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, given: object) -> Inputs:
        """Read arguments: a tuple holds several, a mapping holds keywords, anything else is the only one."""
        if isinstance(given, Mapping):
            return cls((), dict(given))
        return cls(given if isinstance(given, tuple) else (given,), {})


def random_inputs(model: nn.Module, input_shape: object) -> tuple[torch.Tensor, ...]:
    """Return one normal random tensor for every shape, with a batch of 1 before it, as the model's parameters are.

    The generators are put back, so that the program around draws what it would have drawn.

    Raises:
        InputError: That is neither a shape nor a tuple of shapes.
    """
    shapes = shapes_of(input_shape)
    dtype, device = _dtype_and_device(model)
    with preserved_random_state(model):
        return tuple(torch.randn(1, *shape, dtype=dtype, device=device) for shape in shapes)


def shapes_of(input_shape: object) -> list[tuple[int, ...]]:
    """Return the shapes: ``(3, 224, 224)`` is one, ``((3, 224, 224), (10,))`` are two.

    Raises:
        InputError: Anything but positive whole numbers was given, or nothing.
    """
    if not isinstance(input_shape, (tuple, list)) or not input_shape:
        raise _wrong_shape(input_shape)
    if all(isinstance(shape, (tuple, list)) and shape for shape in input_shape):
        return [tuple(_size(size, input_shape) for size in shape) for shape in input_shape]
    return [tuple(_size(size, input_shape) for size in input_shape)]


def _size(size: object, input_shape: object) -> int:
    try:
        number = operator.index(size)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if isinstance(size, bool) or number < 1:
        raise _wrong_shape(input_shape)
    return number


def _wrong_shape(input_shape: object) -> InputError:
    return InputError(
        f"{_WHO}: expected an input shape of positive whole numbers such as (3, 224, 224), or a tuple of such shapes, "
        f"got {input_shape!r} of type {type(input_shape).__name__}. Leave out the batch, or pass tensors as `inputs`."
    )


def _dtype_and_device(model: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Return those of the first parameter or buffer that random numbers can be drawn in, else the defaults."""
    tensors = list(chain(model.parameters(), model.buffers()))
    drawable = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.dtype.itemsize > 1]
    dtype = drawable[0].dtype if drawable else torch.get_default_dtype()
    device = (drawable or tensors)[0].device if tensors else torch.get_default_device()
    return dtype, device
