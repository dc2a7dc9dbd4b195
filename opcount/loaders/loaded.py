"""What loading ends with, and what every loader is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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
        batch_size: The leading dimension of every input; None: 1.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"meta"``.
        train: Train mode; and no block is replaced by its inference form.
        options: ``"key=value"`` settings of a config.
        sequence: Tokens in a text; None: the loader's default.
        inputs: ``"name=1x3x224x224:float32"``: what the model is called with, in place of the loader's own idea.
        arguments: ``"key=value"`` arguments of what builds the model.
        dtype: Of the parameters and of floating-point inputs, ``"bfloat16"``; empty: as the model is made.
        hollow: For a dry run: weights are left out where the builder bears that, and large inputs are on ``meta``.
        heeded: The fields that were used, of those that a loader may have no use for.
    """

    sizes: tuple[int, ...] = ()
    batch_size: int | None = None
    device: str = "cpu"
    train: bool = False
    options: tuple[str, ...] = ()
    sequence: int | None = None
    inputs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    dtype: str = ""
    hollow: bool = False
    heeded: set[str] = field(default_factory=set, compare=False, repr=False)

    def use(self, name: str) -> Any:
        """Return a field, and note that it was used."""
        self.heeded.add(name)
        return getattr(self, name)

    @property
    def samples(self) -> int:
        """The leading dimension of every input that is made."""
        return self.use("batch_size") or 1

    def ignored(self) -> list[str]:
        """Return the options of the command line that were given and that nothing used."""
        return [flag for name, flag in _FLAGS.items() if getattr(self, name) and name not in self.heeded]


_FLAGS = {
    "sizes": "--shape",
    "batch_size": "--batch-size",
    "sequence": "--seq",
    "inputs": "--input",
    "arguments": "--kwargs",
    "options": "--cfg-options",
    "dtype": "--dtype",
}

SIZES = ("--shape", "--batch-size", "--seq")
"""Options that tell the sizes of inputs that are made."""


@dataclass(frozen=True)
class Loaded:
    """A model, in the mode and on the device asked for, and what to call it with.

    Attributes:
        model: The model.
        inputs: A tensor, a tuple of arguments, or a dict of keyword arguments.
        style: Where it comes from, which decides what the reports of that origin look like.
        shape: The input shape as that report prints it.
        asked: The shape asked for, where the model's own padding made another of it.
        note: What was chosen for the user, and how to choose otherwise; empty: nothing.
    """

    model: nn.Module
    inputs: Inputs
    style: Style
    shape: object
    asked: object = None
    note: str = ""
