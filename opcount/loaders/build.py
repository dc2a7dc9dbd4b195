"""Building a model on a device, without its weights where there is no need for them."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame, brief
from opcount.loaders.cli_values import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from torch import nn

    from opcount.loaders.request import Request


_BUILT_FOR_TORCH = ("torchvision", "torchaudio")
"""Libraries of which each release needs its own release of torch."""


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
        raise LoadError(f"load: {unimportable(name, error)}") from error
    except Exception as error:
        raise LoadError(f"load: {unimportable(name, error)}") from error


def unimportable(name: str, error: BaseException) -> str:
    """Return one sentence about a library that does not import: the part of it that is broken, and the remedy."""
    broken = next((part for part in _BUILT_FOR_TORCH if part != name and _is_broken(part)), None)
    if broken is None and name.partition(".")[0] not in _BUILT_FOR_TORCH:
        return f"{name} does not import: {brief(str(error))}. Repair its installation."
    part = broken or name.partition(".")[0]
    uses = f", which {name} imports" if broken else ""
    return (
        f"{part} does not import{uses}: {brief(str(_reason(part) or error)).rstrip('.')}. It must be the release "
        f"built for torch {torch.__version__}: pip install --force-reinstall {part}; or, if nothing needs it, "
        f"pip uninstall {part}."
    )


def _is_broken(name: str) -> bool:
    return _reason(name) is not None


@cache
def _reason(name: str) -> Exception | None:
    """Return why an installed library does not import; None if it does, or is not installed."""
    if name not in sys.modules and find_spec(name) is None:
        return None
    try:
        import_module(name)
    except Exception as error:  # noqa: BLE001  (a library that was built for another torch raises anything)
        return error
    return None


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
