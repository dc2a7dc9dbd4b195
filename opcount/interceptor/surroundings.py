"""What has to hold around a counted block, restored after the last one: blocks may overlap without nesting."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from opcount.interceptor.constructors import subclasses_callable
from opcount.interceptor.functions import functions_shown

if TYPE_CHECKING:
    from collections.abc import Iterator


_EXTRA_HOOKS = "Using `torch.compile\\(module\\)` when there are global hooks on modules"
"""What dynamo warns of under our hooks: they fire for the wrapper, too, which they are made for."""


class _Stance:
    """Runs compiled functions eagerly and without a warning of our hooks, in the whole process.

    Under a dispatch mode dynamo skips a frame that it meets for the first time, for good: the stance keeps it
    from looking. It is set only where dynamo is loaded already, for loading it takes longer than most counts.
    """

    def __init__(self) -> None:
        self._users = 0
        self._before: Any = None
        self._filter: Any = None
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                warnings.filterwarnings("ignore", _EXTRA_HOOKS, UserWarning)
                self._filter = warnings.filters[0]
            if self._before is None and "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
                self._before = torch.compiler.set_stance("force_eager")

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if self._filter in warnings.filters:
                warnings.filters.remove(self._filter)  # type: ignore[attr-defined]  # a list, said to be a sequence
            if self._before is not None:
                self._before.__exit__(None, None, None)
                self._before = None


class _SingleThread(threading.local):
    """Runs backward on the calling thread.

    On an accelerator it would run on a thread of its own, whose autograd sequence numbers collide with ours.
    """

    def __init__(self) -> None:
        self._users = 0
        self._before: Any = None

    def enter(self) -> None:
        self._users += 1
        if self._users == 1:
            self._before = torch.autograd.set_multithreading_enabled(False)

    def leave(self) -> None:
        self._users -= 1
        if not self._users:
            self._before.__exit__(None, None, None)


_STANCE = _Stance()
_SINGLE_THREAD = _SingleThread()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run compiled functions eagerly, backward on the calling thread, and constructors of tensor subclasses unseen.

    Calls of ``autograd.Function`` are shown to interceptors.
    """
    _STANCE.enter()
    _SINGLE_THREAD.enter()
    try:
        with subclasses_callable(), functions_shown():
            yield
    finally:
        _SINGLE_THREAD.leave()
        _STANCE.leave()


@contextmanager
def attention_in_the_open() -> Iterator[None]:
    """Keep PyTorch from its attention and encoder fast paths, in which one operator stands for many modules."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
