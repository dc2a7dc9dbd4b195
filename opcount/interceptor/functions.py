"""Calls of ``autograd.Function``: seen as one, where an interceptor sees what their ``forward`` does."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from torch.autograd.function import Function, _SingleLevelFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Watcher = Callable[[type, tuple[Any, ...], Callable[[], Any]], Any]

_IN_PYTHON = hasattr(vars(Function)["apply"], "__func__")
"""Whether ``Function.apply`` is Python and calls another; from PyTorch 2.15 on it is C++ and calls ``forward``."""

_APPLIED: Any = _SingleLevelFunction if _IN_PYTHON else Function
"""The class that ``apply`` goes through last in Python."""

_BEFORE = vars(_APPLIED).get("apply")

_WATCHERS: list[Watcher] = []
_LOCK = Lock()


def _apply(cls: type, *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        return super(_SingleLevelFunction, cls).apply(*args, **kwargs)  # type: ignore[misc]

    return _WATCHERS[-1](cls, args, run) if _WATCHERS else run()


@contextmanager
def functions_watched(watcher: Watcher) -> Iterator[None]:
    """Let a watcher run the functions that are applied while the block runs, on every thread.

    What ``apply`` calls last is put in its place, for programs keep ``apply`` itself under names of their own: where
    that is C++, functions that are called by such a name are not seen.

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
                if _BEFORE is None:
                    del _APPLIED.apply
                else:
                    _APPLIED.apply = _BEFORE
