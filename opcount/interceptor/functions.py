"""Calls of ``autograd.Function``, forward and backward, shown to the interceptors of the thread that makes them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch.autograd.function import BackwardCFunction, Function, _SingleLevelFunction

from opcount.interceptor.patches import Patches
from opcount.interceptor.stack import interceptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.undo import Undo

_IN_PYTHON = hasattr(vars(Function)["apply"], "__func__")
"""Whether ``Function.apply`` is Python and calls another; from PyTorch 2.15 on it is C++ and calls ``forward``."""

_APPLIED: Any = _SingleLevelFunction if _IN_PYTHON else Function
"""The class that ``apply`` goes through last in Python."""

_CALLS = {
    name: watcher
    for name, watcher in {"apply": "run_backward", "apply_boxed": "run_backward", "apply_jvp": "run_jvp"}.items()
    if name in vars(BackwardCFunction)
}
"""Methods of a node that PyTorch calls, and what an interceptor runs them by."""


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        return super(_SingleLevelFunction, cls).apply(*args, **kwargs)

    for mode in interceptors():
        run = partial(mode.run_function, cls, args, run)
    return run()


def _watched(method: Callable[..., Any], watcher: str) -> Callable[..., Any]:
    def apply(self: Any, *args: Any) -> Any:
        run = partial(method, self, *args)
        for mode in interceptors():
            run = partial(getattr(mode, watcher), self, args, run)
        return run()

    return apply


_PATCHES = Patches(
    {
        (_APPLIED, "apply"): classmethod(_apply),
        **{
            (BackwardCFunction, name): _watched(vars(BackwardCFunction)[name], watcher)
            for name, watcher in _CALLS.items()
        },
    }
)


def show_functions(undo: Undo) -> None:
    """Show the functions that are applied to the interceptors of their threads, until the steps have run.

    What ``apply`` calls last is put in its place, for programs keep ``apply`` itself under names of their own: where
    that is C++, functions that are called by such a name are not seen.
    """
    _PATCHES.use(undo)
