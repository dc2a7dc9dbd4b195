"""This thread's stack of dispatch modes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def modes_below() -> list[Any]:
    """Return the dispatch modes of this thread that an operator is still to pass, the last to see it first."""
    return [torch._C._get_dispatch_stack_at(i) for i in range(torch._C._len_torch_dispatch_stack())]


def interceptors() -> list[Any]:
    """Return the interceptors among them."""
    return [mode for mode in modes_below() if getattr(mode, "is_interceptor", False)]


@contextmanager
def without(absent: Collection[Any]) -> Iterator[None]:
    """Take modes off the stack while the block runs; the others stay in their order."""
    stack = modes_below()
    lowest = next((i for i, mode in enumerate(stack) if mode in absent), len(stack))
    above = stack[lowest:]
    others = [mode for mode in above if mode not in absent]
    _replace(above, others)
    try:
        yield
    finally:
        _replace(others, above)


def _replace(modes: list[Any], others: list[Any]) -> None:
    for _ in modes:
        torch._C._pop_torch_dispatch_stack(None)
    for mode in others:
        torch._C._push_on_torch_dispatch_stack(mode)
