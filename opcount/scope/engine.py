"""Notifications at the begin and the end of a backward, on every thread, while a counter is entered.

A thread that only calls ``backward()`` runs no module, so no hook of a module fires on it. Every backward that
Python starts goes through one engine object, which is replaced by this one for as long as a counter is open.
"""

from __future__ import annotations

from threading import RLock
from typing import Any, Protocol

from opcount._torch.autograd import ImperativeEngine, engine, is_multithreaded, set_engine, set_multithreaded
from opcount.undo import Undo


class Listener(Protocol):
    """An object that is notified of backwards."""

    def begin_backward(self, roots: Any, undo: Undo, *, create_graph: bool) -> None:
        """Prepare for a backward on this thread; add the steps that follow it to ``undo``."""


_listeners: tuple[Listener, ...] = ()
_LOCK = RLock()  # reentrant: the collector may end another count while it is held


class _Engine(ImperativeEngine):
    """PyTorch's engine; every instance stands for the same one.

    Args:
        before: The engine object that it replaces.
    """

    def __init__(self, before: Any) -> None:
        super().__init__()
        self.before = before

    def run_backward(self, roots: Any, *args: Any, **kwargs: Any) -> Any:
        create_graph = bool(args[2] if len(args) > 2 else kwargs.get("create_graph", False))
        with Undo() as after:
            for listener in _listeners:
                listener.begin_backward(roots, after, create_graph=create_graph)
            if after and is_multithreaded():
                after.add(_run_on_several_threads)
                set_multithreaded(False)
            return super().run_backward(roots, *args, **kwargs)


def _run_on_several_threads() -> None:
    """Allow several threads in a backward again.

    The work of an accelerator would run on a thread of its own, whose autograd sequence numbers collide with ours.
    """
    if not is_multithreaded():
        set_multithreaded(True)


RUN_BACKWARD = _Engine.run_backward.__code__
"""Code of the Python frame at the bottom of each backward: all operators of the backward run above it."""


def listen(listener: Listener) -> None:
    """Notify a listener of the backwards of all threads."""
    global _listeners  # noqa: PLW0603  (a tuple, so that a backward under way is not disturbed)
    with _LOCK:
        _listeners = (*_listeners, listener)
        if not isinstance(engine(), _Engine):
            set_engine(_Engine(engine()))


def ignore(listener: Listener) -> None:
    """Stop notifying a listener; after the last one, PyTorch's own engine is put back."""
    global _listeners  # noqa: PLW0603
    with _LOCK:
        _listeners = tuple(other for other in _listeners if other is not listener)
        current = engine()
        if not _listeners and isinstance(current, _Engine):
            set_engine(current.before)
