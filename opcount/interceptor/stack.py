"""Stack of dispatch modes of the current thread."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import TorchDispatchMode, mode_at, mode_count, pop_mode, push_mode
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager


class TransparentMode(TorchDispatchMode):
    """Dispatch mode that changes nothing that dynamo compiles, and sees higher-order operators as they are called."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let dynamo know that compiled functions stay as they are."""
        return True


def modes_below() -> list[Any]:
    """Return the dispatch modes of this thread that an operator is still to pass, the last to see it first."""
    return [mode_at(i) for i in range(mode_count())]


def interceptors() -> list[Any]:
    """Return the interceptors among them."""
    return interceptors_among(modes_below())


def interceptors_among(modes: list[Any]) -> list[Any]:
    """Return those of modes that count."""
    return [mode for mode in modes if getattr(mode, "is_interceptor", False)]


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
    while mode_count() > height:
        pop_mode(None)
    for mode in modes[height:]:
        push_mode(mode)


@contextmanager
def without(absent: Collection[Any]) -> Iterator[None]:
    """Take modes off the stack while the block runs; the others stay in their order."""
    stack = modes_below()
    with Undo() as undo:
        undo.add(partial(replace_modes, stack))
        replace_modes([mode for mode in stack if mode not in absent])
        yield


def unwatched() -> AbstractContextManager[None]:
    """Take all interceptors off this thread's stack while the block runs: what runs there is not the program's."""
    present = interceptors()
    return without(present) if present else nullcontext()


def _leave_in_child() -> None:
    """Take opcount's modes off the stack of a forked process: its work is nobody's, and its tensors go to others."""
    modes = modes_below()
    kept = [mode for mode in modes if not type(mode).__module__.startswith(f"{_PACKAGE}.")]
    if len(kept) < len(modes):
        replace_modes(kept)
    for mode in interceptors_among(modes):
        mode.abandon()


_PACKAGE = __name__.partition(".")[0]

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_in_child)
