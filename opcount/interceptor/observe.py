"""Steps that every counter takes on entering, and undoes on leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount._torch import higher_order
from opcount.interceptor import constructors, fast_paths, foreign_memory, functions, launches, surroundings, tracing
from opcount.interceptor.patches import Patches
from opcount.scope import global_hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.interceptor.mode import Interceptor
    from opcount.scope import Scope, Scopes
    from opcount.undo import Undo

_MODULES = (surroundings, fast_paths, foreign_memory, functions, higher_order, launches, tracing, global_hooks)
_AROUND = {at: make for module in _MODULES for at, make in module.PATCHED_AROUND.items()}
PATCHES = Patches({**functions.PATCHED, **constructors.PATCHED}, around=_AROUND)
"""Attributes of PyTorch that are replaced while any counter is entered."""


def observe(scopes: Scopes, enlist: Callable[[Scope], Interceptor], undo: Undo) -> None:
    """See what this thread runs, and in which module, until the steps have run.

    Args:
        scopes: Told which modules run.
        enlist: Returns the interceptor of a scope.
        undo: Gets the steps.
    """
    _AROUND.update(dict.fromkeys(higher_order.tracers(), surroundings.unseen))
    PATCHES.use(undo)
    surroundings.run_eagerly(undo)
    enlist(scopes.open(undo)).push_here(undo)
