"""Building a model on a device, without its weights where there is no need for them."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.cli_values import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from torch import nn

    from opcount.loaders.request import Request


def made(make: Callable[[], Any], request: Request) -> Any:
    """Call what builds a model; where weights are not needed, without allocating any, if the builder bears that."""
    if not (request.hollow or request.device == "meta"):
        return make()
    from opcount.dryrun.building import build_on_meta  # noqa: PLC0415  (fake tensors take a second to import)

    try:
        return build_on_meta(make)
    except Exception:  # noqa: BLE001  (a constructor that reads a value, such as .item(); if not, it raises again)
        return make()


def build(target: str, make: Callable[[], Any], request: Request) -> nn.Module:
    """Build a model as it was asked for: device, dtype, mode.

    Raises:
        LoadError: It cannot be built.
    """
    try:
        model = made(make, request)
    except (Exception, SystemExit) as error:
        raise LoadError(f"load: {target} cannot be built: {blame(error)}") from error
    if not isinstance(model, torch.nn.Module):
        raise LoadError(
            f"load: expected {target} to build an nn.Module, got {model!r} of type {type(model).__name__}. "
            "Name a function or class that returns one."
        )
    return prepared(model, request)


def prepared(model: nn.Module, request: Request) -> nn.Module:
    """Return a model on the device, in the dtype and in the mode that were asked for."""
    if not request.hollow:
        model = model.to(request.device)
    if request.use("dtype"):
        model = model.to(_number_of_a_weight(request.dtype))
    model.train(request.train)  # of a program's own, it may return nothing
    return model


def _number_of_a_weight(name: str) -> torch.dtype:
    dtype = dtype_of(name)
    if not (dtype.is_floating_point or dtype.is_complex):
        raise InputError(
            f"load: expected a dtype that weights can have, such as float32 or bfloat16, got {name!r}. "
            "The dtype of an input is said with --input."
        )
    return dtype


def library(name: str, extra: str = "models") -> ModuleType:
    """Import an optional library.

    Raises:
        LoadError: It is not installed, or does not import; says what to install.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == name.partition(".")[0]:
            package = name.partition(".")[0]
            raise LoadError(f"load: {package} is not installed. Run: pip install 'opcount[{extra}]'") from error
        raise LoadError(f"load: {name} does not import: {error}. Repair its installation.") from error
    except (ImportError, RuntimeError) as error:
        raise LoadError(f"load: {name} does not import: {error}. Repair its installation.") from error


def unknown(what: str, name: str, known: Iterable[str]) -> LoadError:
    """Return the error for a name that is not known, with the names that are near."""
    names = list(known)
    hint = near(name, names) or f"There are {len(names)} others."
    return LoadError(f"load: {what} knows no model {name!r}. {hint}")


def near(name: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean a or b?"``; nothing where no known name is near."""
    names = list(known)
    found = get_close_matches(name, names, n=3) or [n for n in names if name and name.lower() in n.lower()][:3]
    return f"Did you mean {' or '.join(found)}?" if found else ""
