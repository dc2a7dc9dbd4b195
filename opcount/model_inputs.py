"""Inputs of a model: shapes as users write them, random tensors of these shapes, and the arguments of a call."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount._torch.stand_ins import default_device
from opcount.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Arguments(NamedTuple):
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, inputs: object) -> Arguments:
        """Read inputs: a tuple holds several arguments, a mapping holds keywords, anything else is the only one."""
        if isinstance(inputs, cls):
            return inputs
        if isinstance(inputs, Mapping):
            return cls((), dict(inputs))
        return cls(inputs if isinstance(inputs, tuple) else (inputs,), {})


def read_shapes(input_shape: object, who: str) -> list[tuple[int, ...]]:
    """Return the shapes: ``(3, 224, 224)`` is one, ``((3, 224, 224), (10,))`` are two.

    Raises:
        InputError: Anything but positive whole numbers was given, or nothing.
    """
    given = input_shape if isinstance(input_shape, (tuple, list)) else ()
    several = all(isinstance(shape, (tuple, list)) for shape in given)
    shapes = [tuple(map(_size, shape)) for shape in (given if several and given else [given])]
    if not all(shape and all(shape) for shape in shapes):
        raise InputError(
            f"{who}: expected an input shape of positive whole numbers such as (3, 224, 224), or a tuple of such "
            f"shapes, got {input_shape!r} of type {type(input_shape).__name__}. Leave out the batch, or pass tensors "
            "as `inputs`."
        )
    return shapes


def _size(size: object) -> int:
    """Return a positive whole number; 0 for anything else."""
    try:
        number = operator.index(size)  # type: ignore[arg-type]
    except TypeError:
        return 0
    return 0 if isinstance(size, bool) else max(number, 0)


def dtype_and_device(model: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Return those of the first parameter or buffer that random numbers can be drawn in, else the defaults."""
    tensors = list(chain(model.parameters(), model.buffers()))
    drawable = [t for t in tensors if (t.is_floating_point() and t.dtype.itemsize > 1) or t.is_complex()]
    dtype = drawable[0].dtype if drawable else torch.get_default_dtype()
    device = (drawable or tensors)[0].device if tensors else default_device()
    return dtype, device


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return normal random numbers."""
    return torch.randn(shape, device=device).to(dtype)
