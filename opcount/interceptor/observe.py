"""What every counter does on entering, and undoes on leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.interceptor.constructors import let_subclasses_be_called
from opcount.interceptor.fast_paths import count_masks_once
from opcount.interceptor.functions import show_functions
from opcount.interceptor.surroundings import run_eagerly

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.interceptor.mode import Interceptor
    from opcount.scope import Scope, Scopes
    from opcount.undo import Undo


def observe(scopes: Scopes, enlist: Callable[[Scope], Interceptor], undo: Undo) -> None:
    """See what this thread runs, and in which module, until the steps have run.

    Args:
        scopes: Told which modules run.
        enlist: Returns the interceptor of a scope.
        undo: Gets the steps.
    """
    run_eagerly(undo)
    let_subclasses_be_called(undo)
    show_functions(undo)
    count_masks_once(undo)
    enlist(scopes.open(undo)).push_here(undo)
