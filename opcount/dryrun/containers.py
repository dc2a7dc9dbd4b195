"""Restore the contents of containers in place, without calling methods that the program's subclasses override."""

from __future__ import annotations

import types
from collections import OrderedDict, deque
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Undo = tuple[Callable[[Any, Any], None], Any, Any]
    """A function that restores an object, the object, and its earlier contents."""

ATOMS = {
    int, float, complex, bool, str, bytes, type(None), type, types.ModuleType, types.BuiltinFunctionType, range,
    torch.dtype, torch.device, torch.Size, Tensor, nn.Parameter, torch.Generator, types.BuiltinMethodType,
}  # fmt: skip
"""Types that hold no other objects of the program."""


_KINDS: tuple[Any, ...] = (OrderedDict, dict, list, deque, set, tuple)


def empty_again(containers: list[Any], _before: None) -> None:
    """Clear containers that were empty."""
    for container in containers:
        if len(container):
            container.clear()


def items_of(container: Any) -> Any:
    """Return the items of a dict or the values of another container, without calling overridden methods."""
    kind = _kind_of(container)
    return dict(kind.items(container)) if kind in (dict, OrderedDict) else list(kind.__iter__(container))


def put_back_dict(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    """Restore the items of a dict and their order."""
    kind = _kind_of(now)
    if is_same(kind.keys(now), before) and is_same(kind.values(now), before.values()):
        return
    for name in [name for name in kind.keys(now) if name not in before]:
        kind.pop(now, name)
    if not all(map(is_, kind.keys(now), before)):  # what is left is not what was first
        for name in before:
            kind.pop(now, name, None)
    for name, value in before.items():
        kind.__setitem__(now, name, value)


def put_back_list(now: Any, before: list[Any]) -> None:
    """Restore the items of a list or a deque."""
    kind = _kind_of(now)
    if is_same(list(kind.__iter__(now)), before):
        return
    kind.clear(now)
    kind.extend(now, before)


def put_back_set(now: Any, before: list[Any]) -> None:
    """Restore the items of a set."""
    if set(set.__iter__(now)) != set(before):
        set.intersection_update(now, before)
        set.update(now, before)


def is_same(now: Any, before: Any) -> bool:
    """Return whether two collections hold the same objects in the same order."""
    return len(now) == len(before) and all(map(is_, now, before))


def _kind_of(container: Any) -> Any:
    kind = type(container)
    return kind if kind in _KINDS else next(kind for kind in _KINDS if isinstance(container, kind))


def put_back_buffer(now: Any, before: Any) -> None:
    """Restore the numbers of an array."""
    now[... if isinstance(now, np.ndarray) else slice(None)] = before


def put_back(undo: Iterable[Undo]) -> list[Exception]:
    """Restore everything, even after an exception; return the exceptions."""
    errors: list[Exception] = []
    for restore, now, before in undo:
        try:
            restore(now, before)
        except Exception as error:  # noqa: BLE001  (said when all the others are back)
            errors.append(error)
    return errors


def content_of(cell: types.CellType) -> Any:
    """Return the contents of a closure's cell, or None if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
