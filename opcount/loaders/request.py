"""The request that a loader gets, and the model and inputs that it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from torch import Tensor, nn

    from opcount.model_inputs import Arguments

    Inputs: TypeAlias = "Arguments | Tensor | tuple[object, ...] | dict[str, object]"
    Style: TypeAlias = Literal["file", "classifier", "detector", "library"]

_SIZES = ("shape", "batch_size", "seq")
_HEEDED = ("device", "train", "hollow", "seq_option", "used")
"""Fields that every loader has a use for: any other is refused where nothing depends on it."""


@dataclass(frozen=True)
class Request:
    """A model and inputs to build: one field for each option of the command line, under the same name.

    Attributes:
        shape: One size for a square image, two for height and width, or a whole shape without the batch; empty: the
            default of the file or the model.
        batch_size: Leading dimension of every input; None: 1.
        num_images: Images of a config's data set, or random ones, whose mean is counted; None: one input.
        seq: Tokens in a text; None: the loader's default.
        seq_option: The option that said ``seq``, for messages.
        input: ``"name=1x3x224x224:float32"``: inputs of the model, where the default ones do not suit it.
        kwargs: ``"key=value"`` arguments of the function or class that builds the model.
        cfg_options: ``"key=value"`` settings that override those of a config.
        dtype: Data type of parameters and floating-point inputs, such as ``"bfloat16"``; empty: the model's own.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"meta"``.
        train: Train mode in place of eval mode; no block is replaced by its inference form.
        hollow: For a dry run: leave out weights if the builder permits that, and put large inputs on ``meta``.
        used: Names of the fields that a loader has read with `use`.
    """

    shape: tuple[int, ...] = ()
    batch_size: int | None = None
    num_images: int | None = None
    seq: int | None = None
    input: tuple[str, ...] = ()
    kwargs: tuple[str, ...] = ()
    cfg_options: tuple[str, ...] = ()
    dtype: str = ""
    device: str = "cpu"
    train: bool = False
    hollow: bool = False
    seq_option: str = "--seq"
    used: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def of(cls, options: Namespace, *, hollow: bool) -> Request:
        """Return the request of a parsed command line, whose options share their names with the fields."""
        given = {each.name: getattr(options, each.name) for each in fields(cls) if hasattr(options, each.name)}
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **lists, "hollow": hollow})

    def use(self, name: str) -> Any:
        """Return a field, and record that the model or its inputs depend on it."""
        self.used.add(name)
        return getattr(self, name)

    @property
    def samples(self) -> int:
        """Leading dimension of every input that is made."""
        return self.use("batch_size") or 1

    @property
    def makes_inputs(self) -> bool:
        """True if inputs are made: those of ``input`` are all that there are unless sizes say that others follow."""
        return not self.input or any(getattr(self, name) for name in _SIZES)

    @property
    def assumed(self) -> str:
        """The option whose default decided the size of an input; empty: the user said all sizes."""
        return next((f"--{name}" for name in ("shape", "seq") if name in self.used and not getattr(self, name)), "")

    def unused(self) -> str:
        """Return the first option that was given though nothing depends on it, as a message shows it."""
        given = (each.name for each in fields(self) if each.name not in _HEEDED and getattr(self, each.name))
        name = next((name for name in given if name not in self.used), "")
        flag = self.seq_option if name == "seq" else f"--{name.replace('_', '-')}" if name else ""
        return f"{flag} beside --input" if name in _SIZES and self.input else flag


@dataclass(frozen=True)
class Image:
    """An image as a model gets it.

    Attributes:
        inputs: Arguments of the model.
        original: Height and width of the image.
        padded: Height and width of what the model gets.
    """

    inputs: Inputs
    original: tuple[int, ...]
    padded: tuple[int, ...]


@dataclass(frozen=True)
class Loaded:
    """A model, in the mode and on the device asked for, and its inputs.

    Attributes:
        model: The model.
        inputs: A tensor, a tuple of arguments, or a dict of keyword arguments.
        style: Kind of source, which decides the layout of a report.
        shape: The input shape as that report prints it.
        asked: The shape asked for, where the model's own padding made another of it.
        note: A default that was chosen for the user, and how to choose otherwise; empty: none.
        declared: Whether the model's own file says the inputs.
        assumed: The option that says other inputs, if nobody said these.
        batch: Leading dimension of the inputs; None if nobody knows it.
        images: Yields images whose mean is to be counted, in place of ``inputs``; None: there is one input.
    """

    model: nn.Module
    inputs: Inputs
    style: Style
    shape: object
    asked: object = None
    note: str = ""
    declared: bool = False
    assumed: str = ""
    batch: int | None = None
    images: Callable[[], Iterator[Image]] | None = None
