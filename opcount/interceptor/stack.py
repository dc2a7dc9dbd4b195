"""This thread's stack of dispatch modes."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_height: Callable[[], int] = torch._C._len_torch_dispatch_stack
_mode_at: Callable[[int], Any] = torch._C._get_dispatch_stack_at
_pop: Callable[[None], Any] = torch._C._pop_torch_dispatch_stack
_push: Callable[[Any], None] = torch._C._push_on_torch_dispatch_stack


def modes_below() -> list[Any]:
    """Return the dispatch modes of this thread that an operator is still to pass, the last to see it first."""
    return [_mode_at(i) for i in range(_height())]


def interceptors() -> list[Any]:
    """Return the interceptors among them."""
    return [mode for mode in modes_below() if getattr(mode, "is_interceptor", False)]


def dry_runs() -> list[Any]:
    """Return the dry runs that are active on this thread."""
    return [mode for mode in modes_below() if getattr(mode, "is_dry_run", False)]


def replace_modes(modes: list[Any]) -> None:
    """Make these the modes of the stack, of which some are there already; those that stay are not touched."""
    height = 0
    for mode, wanted in zip(modes_below(), modes, strict=False):
        if mode is not wanted:
            break
        height += 1
    while _height() > height:
        _pop(None)
    for mode in modes[height:]:
        _push(mode)


@contextmanager
def without(absent: Collection[Any]) -> Iterator[None]:
    """Take modes off the stack while the block runs; the others stay in their order."""
    stack = modes_below()
    with Undo() as undo:
        undo.add(partial(replace_modes, stack))
        replace_modes([mode for mode in stack if mode not in absent])
        yield
