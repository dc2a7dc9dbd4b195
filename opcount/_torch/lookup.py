"""Looks up private names of PyTorch, and says which are missing."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any
from warnings import warn

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST, NEWEST = (2, 1), (2, 15)
SUPPORTED = "2.1 to 2.15"
"""The versions of PyTorch that opcount is tested with."""


VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


def check_version(version: str = torch.__version__) -> None:
    """Warn of a PyTorch that is newer than those tested.

    Raises:
        ImportError: It is older.
    """
    major, minor = map(int, version.split(".")[:2])
    if (major, minor) < OLDEST:
        raise ImportError(
            f"opcount: expected PyTorch {SUPPORTED}, got {version}. Install a newer PyTorch, or an older opcount."
        )
    if (major, minor) > NEWEST:
        warn(
            f"opcount: tested with PyTorch {SUPPORTED}, got {version}: operators that it does not know are named as "
            f"uncounted. Install a newer opcount, if there is one.",
            stacklevel=2,
        )


check_version()


def need(*names: str) -> Any:
    """Return a private name of PyTorch: the first that this one has.

    Args:
        names: Below ``torch``, such as ``"_C._current_graph_task_id"``; several where versions call it otherwise.

    Raises:
        ImportError: This PyTorch has none of them.

    Example:
        >>> need("_C._len_torch_dispatch_stack")()
        0
    """
    for name in names:
        try:
            return reduce(_inside, name.split("."), torch)
        except AttributeError:
            continue
    raise _lacking(" or ".join(f"torch.{name}" for name in names))


@contextmanager
def needed() -> Iterator[None]:
    """Raise the error of `need` for a name that the block imports from PyTorch, and that this PyTorch lacks."""
    try:
        yield
    except ImportError as error:
        what = re.search(r"import name '(\w+)'", str(error))
        raise _lacking(f"{error.name}.{what[1]}" if what else str(error.name)) from error


def _lacking(name: str) -> ImportError:
    return ImportError(
        f"opcount: expected {name}, which PyTorch {torch.__version__} lacks. "
        f"Install a PyTorch from {SUPPORTED}, or a newer opcount."
    )


def find(name: str, otherwise: Any = None) -> Any:
    """Return a private name of PyTorch, or what stands in where this version has none.

    Example:
        >>> find("_C._no_such_name", 1)
        1
    """
    try:
        return reduce(_inside, name.split("."), torch)
    except AttributeError:
        return otherwise


def _inside(owner: Any, name: str) -> Any:
    """Return an attribute, or a module that its package does not show, as ``torch.optim`` does with its own."""
    module = sys.modules.get(f"{getattr(owner, '__name__', '')}.{name}")
    return getattr(owner, name) if module is None else module
