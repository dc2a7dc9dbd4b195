"""Calls of ``autograd.Function``, forward and backward, shown to the interceptors of the thread that makes them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch.autograd.function import BackwardCFunction, Function, FunctionMeta

from opcount._torch.autograd import APPLIED, APPLY_IS_PYTHON, SingleLevelFunction, functorch_functions
from opcount.interceptor.stack import interceptors

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS = {
    name: watcher
    for name, watcher in {"apply": "run_backward", "apply_boxed": "run_backward", "apply_jvp": "run_jvp"}.items()
    if name in vars(BackwardCFunction)
}
"""Methods of a node that PyTorch calls, and what an interceptor runs them by."""


_BEFORE: Any = vars(Function)["apply"]


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        if APPLY_IS_PYTHON or not hasattr(_BEFORE, "__get__"):
            return super(SingleLevelFunction, cls).apply(*args, **kwargs)
        return _BEFORE.__get__(None, cls)(*args, **kwargs)

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


def _vmap(interpreter: Any, rule: Any, function: Any, *operands: Any, **kwargs: Any) -> Any:
    """Show a function's own rule for ``vmap``: in place of what functorch calls to run such a rule."""
    run = partial(_vmap_before, interpreter, rule, function, *operands, **kwargs)
    for mode in interceptors() if isinstance(function, FunctionMeta) else ():
        run = partial(mode.run_vmap, function, operands, run)
    return run()


_VMAP = "custom_function_call_vmap_helper"
_vmap_before: Any = getattr(functorch_functions, _VMAP, None)

PATCHED: dict[tuple[Any, str], Any] = {
    **({(functorch_functions, _VMAP): _vmap} if _vmap_before else {}),
    (APPLIED, "apply"): classmethod(_apply),
    **{(BackwardCFunction, name): _watched(vars(BackwardCFunction)[name], watcher) for name, watcher in _CALLS.items()},
}
"""Replacements by class and attribute, in place while functions are shown to the interceptors of their threads.

The last function that ``apply`` calls is replaced, for programs keep ``apply`` itself under names of their own: where
that is C++, functions that are called by such a name are not seen.
"""
