"""Tells when a backward begins and ends, on every thread, while a counter is entered.

A thread that only calls ``backward()`` runs no module, so no hook of a module fires on it. Every backward that
Python starts goes through one engine object, which is replaced by this one for as long as a counter is open.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from torch._C import _ImperativeEngine
from torch.autograd.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener(Protocol):
    """Wants to know about backwards."""

    def begin_backward(self, roots: Any, *, create_graph: bool) -> Callable[[], object] | None:
        """Prepare for a backward on this thread; return what is to be done after it, if anything."""


_listeners: tuple[Listener, ...] = ()
_LOCK = Lock()
_BEFORE: list[Any] = []


class _Engine(_ImperativeEngine):
    """PyTorch's engine; every instance stands for the same one."""

    def run_backward(self, roots: Any, *args: Any, **kwargs: Any) -> Any:
        create_graph = bool(args[2] if len(args) > 2 else kwargs.get("create_graph", False))
        after: list[Callable[[], object]] = []
        try:
            for listener in _listeners:
                done = listener.begin_backward(roots, create_graph=create_graph)
                if done is not None:
                    after.append(done)
            return super().run_backward(roots, *args, **kwargs)
        finally:
            while after:
                after.pop()()


RUN_BACKWARD = _Engine.run_backward.__code__
"""Of the Python frame that is below every operator of a backward, and above none of the next backward."""


def listen(listener: Listener) -> None:
    """Tell a listener about the backwards of all threads."""
    global _listeners  # noqa: PLW0603  (a tuple, so that a backward under way is not disturbed)
    with _LOCK:
        if not _listeners:
            _BEFORE.append(Variable._execution_engine)
            Variable._execution_engine = _Engine()
        _listeners = (*_listeners, listener)


def ignore(listener: Listener) -> None:
    """Stop telling it; the engine is PyTorch's own again after the last one."""
    global _listeners  # noqa: PLW0603
    with _LOCK:
        if listener in _listeners:
            _listeners = tuple(other for other in _listeners if other is not listener)
            if not _listeners:
                Variable._execution_engine = _BEFORE.pop()
