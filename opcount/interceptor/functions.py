"""Calls of ``autograd.Function``: seen as one, where an interceptor sees what their ``forward`` does."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from torch.autograd.function import _SingleLevelFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Watcher = Callable[[type, tuple[Any, ...], Callable[[], Any]], Any]

_APPLIED: Any = _SingleLevelFunction
"""The class that ``apply`` goes through last in Python; it has none of its own."""

_WATCHERS: list[Watcher] = []
_LOCK = Lock()


def _apply(cls: type, *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        return super(_APPLIED, cls).apply(*args, **kwargs)

    return _WATCHERS[-1](cls, args, run) if _WATCHERS else run()


@contextmanager
def functions_watched(watcher: Watcher) -> Iterator[None]:
    """Let a watcher run the functions that are applied while the block runs, on every thread.

    What ``apply`` calls last is put in its place, for programs keep ``apply`` itself under names of their own.

    Args:
        watcher: ``(function, args, run) -> out``; calls ``run()``.
    """
    with _LOCK:
        if not _WATCHERS:
            _APPLIED.apply = classmethod(_apply)
        _WATCHERS.append(watcher)
    try:
        yield
    finally:
        with _LOCK:
            _WATCHERS.remove(watcher)
            if not _WATCHERS:
                del _APPLIED.apply
