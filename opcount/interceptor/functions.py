"""Calls of ``autograd.Function``, forward and backward, shown to the interceptors of the thread that makes them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch.autograd.function import BackwardCFunction, Function

from opcount._torch.autograd import APPLIED, APPLY_IS_PYTHON, SingleLevelFunction, functorch_functions
from opcount._torch.functorch import in_transform
from opcount.interceptor.stack import interceptors

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS = {
    name: watcher
    for name, watcher in {"apply": "run_backward", "apply_boxed": "run_backward", "apply_jvp": "run_jvp"}.items()
    if name in vars(BackwardCFunction)
}
"""Methods of a node that PyTorch calls, and what an interceptor runs them by."""


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    run = partial(super(SingleLevelFunction, cls).apply, *args, **kwargs)
    if not APPLY_IS_PYTHON and issubclass(cls, Function) and in_transform():
        return run()  # that gives it to functorch, which applies what it makes of it
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


def _watched_vmap(original: Any) -> Any:
    """Show a function's own rule for ``vmap``: what functorch calls to run such a rule."""

    def vmap(interpreter: Any, function: Any, *operands: Any, **kwargs: Any) -> Any:
        run = partial(original, interpreter, function, *operands, **kwargs)
        for mode in () if function.generate_vmap_rule else interceptors():
            run = partial(mode.run_vmap, function, operands, run)
        return run()

    return vmap


PATCHED_AROUND: dict[tuple[Any, str], Any] = {(functorch_functions, "custom_function_call_vmap"): _watched_vmap}
PATCHED: dict[tuple[Any, str], Any] = {
    **{(owner, "apply"): classmethod(_apply) for owner in APPLIED},
    **{(BackwardCFunction, name): _watched(vars(BackwardCFunction)[name], watcher) for name, watcher in _CALLS.items()},
}
"""Replacements by class and attribute, in place while functions are shown to the interceptors of their threads.

The last function that ``apply`` calls is replaced, for programs keep ``apply`` itself under names of their own: where
that is C++, functions that are called by such a name are not seen.
"""
