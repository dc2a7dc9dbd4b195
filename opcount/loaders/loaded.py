"""What loading ends with, and what every loader is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import Tensor, nn

    Inputs: TypeAlias = "Tensor | tuple[object, ...] | dict[str, object]"
    Style: TypeAlias = Literal["file", "classifier", "detector", "library"]


@dataclass(frozen=True)
class Request:
    """How the model is to be built and called.

    Attributes:
        sizes: What follows ``--shape``; empty: the loader's default.
        batch_size: The leading dimension of every input.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"meta"``.
        train: Train mode; and no block is replaced by its inference form.
        options: ``"key=value"`` settings of a config.
        sequence: Tokens in a text; None: the loader's default.
        inputs: ``"name=1x3x224x224:float32"``: what the model is called with, in place of the loader's own idea.
        arguments: ``"key=value"`` arguments of what builds the model.
        dtype: Of the parameters and of floating-point inputs, ``"bfloat16"``; empty: as the model is made.
    """

    sizes: tuple[int, ...] = ()
    batch_size: int = 1
    device: str = "cpu"
    train: bool = False
    options: tuple[str, ...] = ()
    sequence: int | None = None
    inputs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    dtype: str = ""


@dataclass(frozen=True)
class Loaded:
    """A model, in the mode and on the device asked for, and what to call it with.

    Attributes:
        model: The model.
        inputs: A tensor, a tuple of arguments, or a dict of keyword arguments.
        style: Where it comes from, which decides what the reports of that origin look like.
        shape: The input shape as that report prints it.
        asked: The shape asked for, where the model's own padding made another of it.
    """

    model: nn.Module
    inputs: Inputs
    style: Style
    shape: object
    asked: object = None
