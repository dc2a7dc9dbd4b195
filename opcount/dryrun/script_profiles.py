"""TorchScript notes the shapes of its first runs, and fuses operators in later ones: a dry run is none of these.

It also rewrites the graph of a script before its first run, for autocast and whatever else, unless that run is one
without optimizations, as all are in a dry run; then no later run has these rewrites. So they are made before.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import wraps
from threading import local
from typing import TYPE_CHECKING, Any

from torch.jit import ScriptFunction

from opcount._torch.dispatch import ScriptMethod, optimize_scripts, optimizes_scripts
from opcount._torch.tracing import FREEZERS
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Profiles(local):
    """True if scripts run without optimizations on this thread for a dry run, and not for the program."""

    unprofiled = False


_PROFILES = _Profiles()


@contextmanager
def scripts_unprofiled() -> Iterator[None]:
    """Have TorchScript run graphs as they are on this thread, and note nothing."""
    with Undo() as undo:
        _PATCHES.use(undo)
        if optimizes_scripts():
            undo.add(_optimize)
            _PROFILES.unprofiled = True
            optimize_scripts(False)  # noqa: FBT003  (a function in C++)
        yield


def _optimize() -> None:
    _PROFILES.unprofiled = False
    optimize_scripts(True)  # noqa: FBT003


def _rewritten(original: Callable[..., Any]) -> Callable[..., Any]:
    """Patch a call of a script: its graph is rewritten first, as before a run with optimizations."""

    @wraps(original)
    def call(script: Any, *args: Any, **kwargs: Any) -> Any:
        if _PROFILES.unprofiled:
            try:
                optimize_scripts(True)  # noqa: FBT003
                with suppress(RuntimeError):  # of a script that has not run: that it has no plan
                    (script.owner if isinstance(script, ScriptMethod) else script).get_debug_state()
            finally:
                optimize_scripts(False)  # noqa: FBT003
        return original(script, *args, **kwargs)

    return call


def _optimized(original: Callable[..., Any]) -> Callable[..., Any]:
    """Patch what rewrites modules: without optimizations it would take away methods that it has not inlined."""

    @wraps(original)
    def rewrite(*args: Any, **kwargs: Any) -> Any:
        if not _PROFILES.unprofiled:
            return original(*args, **kwargs)
        try:
            optimize_scripts(True)  # noqa: FBT003
            return original(*args, **kwargs)
        finally:
            optimize_scripts(False)  # noqa: FBT003

    return rewrite


_PATCHES = Patches(
    {(kind, "__call__"): _rewritten(kind.__call__) for kind in (ScriptFunction, ScriptMethod)},
    around=dict.fromkeys(FREEZERS, _optimized),
)
