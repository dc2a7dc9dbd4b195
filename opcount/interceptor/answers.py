"""Runs operators by whatever knows what they return, without a way through PyTorch's dispatcher.

In a dry run that is the mode right below the interceptor, and to reach it takes longer than its answer.
"""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from opcount.interceptor.stack import dry_runs, interceptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.undo import Undo

UNKNOWN = object()
"""Says that a call is not known."""


class Source(Protocol):
    """Knows what some calls return."""

    def recall(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Return what an operator returns, or `UNKNOWN`."""

    def join(self, undo: Undo) -> None:
        """Answer on this thread, too, until the steps have run."""

    def share(self, undo: Undo) -> None:
        """Answer another counter until the steps have run."""


class Answers:
    """Asks a source first, for as long as there is one, on the threads where it answers."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._threads: set[int] = set()

    def begin(self, source: Source) -> None:
        """Ask a source from now on; call it before this count's interceptor is there."""
        self._source = source
        self._ask_here()

    def share(self, undo: Undo) -> bool:
        """Let a dry run that this thread is in already answer until the steps have run; tell whether it is in one."""
        source = next(iter(dry_runs()), None)
        if source is None:
            return False
        undo.add(self.end)
        source.share(undo)
        self.begin(source)
        return True

    def join(self, undo: Undo) -> None:
        """Have it answer on this thread, too, until the steps have run."""
        if self._source is not None:
            self._source.join(undo)
            undo.add(partial(self._threads.discard, get_ident()))
            self._ask_here()

    def _ask_here(self) -> None:
        """Ask it first on this thread, unless other counters are to see what it answers."""
        if not interceptors():
            self._threads.add(get_ident())

    def end(self) -> None:
        """Ask nobody."""
        self._source = None
        self._threads.clear()

    def runner(self, func: Any) -> Callable[..., Any]:
        """Return what is to be called in place of an operator."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if self._source is not None and get_ident() in self._threads:
                out = self._source.recall(func, args, kwargs)
                if out is not UNKNOWN:
                    return out
            return func(*args, **kwargs)

        return run
