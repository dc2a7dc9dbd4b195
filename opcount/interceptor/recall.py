"""Runners of operators in a dry run: they ask for results without a way through PyTorch's dispatcher.

The dry run is the mode right below the interceptor, and to reach it takes longer than its answer.
"""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from opcount.interceptor.stack import interceptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.undo import Undo


class AnyDryRun(Protocol):
    """A dry run that knows what some calls return."""

    def recall(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Return what an operator returns, or `NotImplemented`."""

    def join(self, undo: Undo) -> None:
        """Be in effect on this thread, too, until the steps have run."""


class Recall:
    """Factory of the runners of one count: they ask a dry run first, on the threads where no other counter waits."""

    def __init__(self) -> None:
        self._dry_run: AnyDryRun | None = None
        self._threads: set[int] = set()

    def __call__(self, func: Any) -> Callable[..., Any]:
        """Return what is to be called in place of an operator."""
        threads = self._threads

        def run(*args: Any, **kwargs: Any) -> Any:
            dry_run = self._dry_run
            if dry_run is not None and get_ident() in threads:
                out = dry_run.recall(func, args, kwargs)
                if out is not NotImplemented:
                    return out
            return func(*args, **kwargs)

        return run

    def begin(self, dry_run: AnyDryRun, undo: Undo) -> None:
        """Ask a dry run until the steps have run; call it before this count's interceptor is there."""
        undo.add(self._end)
        self._dry_run = dry_run
        self._ask_here()

    def join(self, undo: Undo) -> None:
        """Let the dry run be in effect on this thread, too, and ask it, until the steps have run."""
        if self._dry_run is not None:
            self._dry_run.join(undo)
            undo.add(partial(self._threads.discard, get_ident()))
            self._ask_here()

    def _ask_here(self) -> None:
        """Ask it first on this thread, unless other counters are to see what it answers."""
        if not interceptors():
            self._threads.add(get_ident())

    def _end(self) -> None:
        self._dry_run = None
        self._threads.clear()
