"""Values of command-line options: ``key=value`` pairs, dtypes, and inputs by shape and dtype."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError, LoadError
from opcount.loaders.input_tensors import home, image_shape, ones, random_batch
from opcount.model_inputs import random_tensor

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TypeAlias

    from torch import Tensor, nn

    from opcount.loaders.request import Inputs, Request

    Makers: TypeAlias = Mapping[str, Callable[[], object]] | Sequence[Callable[[], object]]

_DTYPES = {
    **{f"{prefix}{bits}": f"float{bits}" for prefix in ("fp", "f") for bits in (16, 32, 64)},
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    "bf16": "bfloat16",
    "u8": "uint8",
}
"""Short names of dtypes that are no names of torch's."""

_LONG = 60
_INPUT = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:[x,*]\d+)*|\(\d+(?:,\s*\d+)*,?\)|scalar)(?::(?P<dtype>\w+))?"
)


def arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` pairs as keyword arguments; a value that is no Python literal is a string.

    Example:
        >>> arguments(["depth=3", "act=gelu", "sizes=(1, 2)"])
        {'depth': 3, 'act': 'gelu', 'sizes': (1, 2)}
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"load: expected key=value, got {pair!r}. Write it without spaces around the sign.")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def read_json(file: Path) -> dict[str, Any]:
    """Return the settings in a ``config.json``.

    Raises:
        LoadError: The file cannot be read, or holds something else.
    """
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"load: {str(file)!r} cannot be read: {error.strerror}. Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"load: expected JSON in {str(file)!r}, got {error}. Check the file.") from error
    if not isinstance(settings, dict):
        raise LoadError(
            f"load: expected settings by name in {str(file)!r}, got {shown(settings)} of type "
            f"{type(settings).__name__}. Check the file."
        )
    return settings


def shown(value: object) -> str:
    """Return a value for a message, a long one cut."""
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def dtype_of(name: str) -> torch.dtype:
    """Return a dtype by its name, ``"float32"``, or a short one: ``"fp16"``, ``"bf16"``, ``"half"``.

    Raises:
        InputError: There is none.
    """
    known = name.lower().removeprefix("torch.")
    dtype = getattr(torch, _DTYPES.get(known, known), None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(
            f"load: expected a dtype such as float32, fp16, bf16 or int64, got {name!r}. Name one of torch's."
        )
    return dtype


def called_with(model: nn.Module, request: Request, makers: Makers) -> Inputs:
    """Return the inputs of a model: those of ``--input``, and for the rest those that a loader makes.

    Args:
        model: Its forward's arguments have names.
        request: Where it names inputs, others are made only if it says of what size.
        makers: Make the loader's own inputs: by name, or in the order of the arguments.

    Raises:
        InputError: An input is not of the form ``name=1x3x224x224:float32``, or only some have names.
    """
    if not request.input:
        return _made(makers)
    named, unnamed = _given(request)
    if not request.makes_inputs:
        return dict(named) if named else tuple(unnamed)
    names = _positional_names(model)
    if isinstance(makers, Mapping):
        named |= dict(zip(names, unnamed, strict=False))
        by_name = dict(makers)
    elif unnamed:
        left = makers[len(unnamed) :] or makers[: bool(request.shape) and len(unnamed) < len(names)]
        return (*unnamed, *(make() for make in left))
    else:
        by_name = dict(zip(names, makers, strict=False))
        if request.shape and by_name.keys() <= named.keys():  # a shape is that of an input that is left out
            by_name = dict(zip((name for name in names if name not in named), makers, strict=False))
    made = {**{name: make() for name, make in by_name.items() if not _stands_in(name, named)}, **named}
    return {name: made[name] for name in (*(n for n in names if n in made), *(n for n in made if n not in names))}


def called_with_shapes(
    model: nn.Module,
    request: Request,
    defaults: Sequence[tuple[int, ...]],
    make: Callable[[nn.Module, tuple[int, ...], Request], object] = random_batch,
) -> tuple[Inputs, object]:
    """Return the inputs of a model, one for each default shape, and the shapes of those that were made."""
    made: list[tuple[int, ...]] = []

    def one(default: tuple[int, ...]) -> object:
        made.append(image_shape(request.use("shape"), default))
        return make(model, made[-1], request)

    inputs = called_with(model, request, [partial(one, default) for default in defaults])
    return inputs, made[0] if len(made) == 1 else made or ", ".join(request.input)


def _made(makers: Makers) -> Inputs:
    if isinstance(makers, Mapping):
        return {name: make() for name, make in makers.items()}
    made = tuple(make() for make in makers)
    return made[0] if len(made) == 1 and isinstance(made[0], torch.Tensor) else made


def _stands_in(name: str, named: Mapping[str, object]) -> bool:
    """Return whether an input was given, or the embeddings that take its place."""
    return name in named or (name.endswith("input_ids") and name.replace("input_ids", "inputs_embeds") in named)


def _positional_names(model: nn.Module) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    return [each.name for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]


def _given(request: Request) -> tuple[dict[str, object], list[object]]:
    named: dict[str, object] = {}
    unnamed: list[object] = []
    for text in request.use("input"):
        match = _INPUT.fullmatch(text)
        if match is None:
            raise InputError(
                f"load: expected an input such as x=1x3x224x224:float32 or 1x128:int64, got {text!r}. "
                "Write sizes with x between them, then a colon and the dtype."
            )
        tensor = _make(match["shape"], match["dtype"] or request.use("dtype") or "float32", request)
        if match["name"] in named:
            raise InputError(f"load: expected one --input for {match['name']}, got another, {text!r}. Leave one out.")
        if match["name"]:
            named[match["name"]] = tensor
        else:
            unnamed.append(tensor)
    if named and unnamed:
        raise InputError(f"load: expected a name for every input or for none, got {', '.join(request.input)}.")
    return named, unnamed


def _make(shape: str, dtype: str, request: Request) -> Tensor:
    sizes = tuple(map(int, re.findall(r"\d+", shape)))
    kind = dtype_of(dtype)
    if kind.is_floating_point or kind.is_complex:
        return random_tensor(sizes, kind, home(sizes, request))
    return ones(sizes, request, kind)
