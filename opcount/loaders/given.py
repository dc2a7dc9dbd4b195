"""What a command line says of a model's arguments: ``key=value`` pairs, and inputs by shape and dtype."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from opcount.loaders.loaded import Inputs, Request

_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*|scalar)(?::(?P<dtype>\w+))?")


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


def dtype_of(name: str) -> torch.dtype:
    """Return a dtype by its name, ``"float32"``.

    Raises:
        InputError: There is none.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(
            f"load: expected a dtype such as float32, bfloat16 or int64, got {name!r}. Name one of torch's."
        )
    return dtype


def given_inputs(request: Request) -> Inputs:
    """Return the inputs that were asked for: by name if they have names, else by position.

    Raises:
        InputError: One is not of the form ``name=1x3x224x224:float32``, or only some have names.
    """
    named: dict[str, Tensor] = {}
    unnamed: list[Tensor] = []
    for text in request.inputs:
        match = _INPUT.fullmatch(text)
        if match is None:
            raise InputError(
                f"load: expected an input such as x=1x3x224x224:float32 or 1x128:int64, got {text!r}. "
                "Write sizes with x between them, then a colon and the dtype."
            )
        tensor = _make(match["shape"], match["dtype"] or request.dtype or "float32", request.device)
        if match["name"]:
            named[match["name"]] = tensor
        else:
            unnamed.append(tensor)
    if named and unnamed:
        raise InputError(f"load: expected a name for every input or for none, got {', '.join(request.inputs)}.")
    return dict(named) if named else tuple(unnamed)


def _make(shape: str, dtype: str, device: str) -> Tensor:
    sizes = () if shape == "scalar" else tuple(map(int, shape.split("x")))
    kind = dtype_of(dtype)
    if kind.is_floating_point or kind.is_complex:
        return torch.rand(sizes, device=device).to(kind)
    return torch.ones(sizes, dtype=kind, device=device)
