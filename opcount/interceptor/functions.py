"""Calls of ``autograd.Function``, forward and backward, shown to the interceptors of the thread that makes them."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from torch.autograd.function import BackwardCFunction, Function, _SingleLevelFunction

from opcount.interceptor.stack import interceptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IN_PYTHON = hasattr(vars(Function)["apply"], "__func__")
"""Whether ``Function.apply`` is Python and calls another; from PyTorch 2.15 on it is C++ and calls ``forward``."""

_APPLIED: Any = _SingleLevelFunction if _IN_PYTHON else Function
"""The class that ``apply`` goes through last in Python."""

_ENGINE_CALLS = [name for name in ("apply", "apply_boxed") if name in vars(BackwardCFunction)]
"""Methods of a node that autograd's engine calls."""

_USERS: list[object] = []
_LOCK = Lock()


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        return super(_SingleLevelFunction, cls).apply(*args, **kwargs)

    for mode in interceptors():
        run = partial(mode.run_function, cls, args, run)
    return run()


_WATCHED_APPLY = classmethod(_apply)


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    def apply(self: Any, *args: Any) -> Any:
        run = partial(method, self, *args)
        for mode in interceptors():
            run = partial(mode.run_backward, self, args, run)
        return run()

    return apply


_BEFORE = {
    (_APPLIED, "apply"): vars(_APPLIED).get("apply"),
    **{(BackwardCFunction, name): vars(BackwardCFunction)[name] for name in _ENGINE_CALLS},
}
_INSTEAD = {
    (_APPLIED, "apply"): _WATCHED_APPLY,
    **{(BackwardCFunction, name): _watched(vars(BackwardCFunction)[name]) for name in _ENGINE_CALLS},
}


@contextmanager
def functions_shown() -> Iterator[None]:
    """Show the functions that are applied while the block runs to the interceptors of their threads.

    What ``apply`` calls last is put in its place, for programs keep ``apply`` itself under names of their own: where
    that is C++, functions that are called by such a name are not seen.
    """
    user = object()
    try:
        with _LOCK:
            _USERS.append(user)
            if len(_USERS) == 1:
                for (owner, name), method in _INSTEAD.items():
                    setattr(owner, name, method)
        yield
    finally:
        with _LOCK:
            if user in _USERS:
                _USERS.remove(user)
            if not _USERS:
                for (owner, name), before in _BEFORE.items():
                    _put_back(owner, name, before)


def _put_back(owner: Any, name: str, before: Any) -> None:
    """Put a method back, unless the program has put another in its place."""
    if vars(owner).get(name) is not _INSTEAD[owner, name]:
        return
    if before is None:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
