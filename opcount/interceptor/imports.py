"""Run the code of modules that are imported inside a block in another state than the block's."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from opcount.undo import Undo


def import_within(state: Callable[[], AbstractContextManager[object]], undo: Undo, *, only: str | None = None) -> None:
    """Enter a state while the code of an imported module runs, until the steps have run.

    Args:
        state: Makes the context manager.
        undo: Gets the step that ends it.
        only: The module that it is for; all by default.
    """
    finder = _Finder(state, only)
    undo.add(partial(_remove, finder))
    sys.meta_path.insert(0, finder)


def _remove(finder: _Finder) -> None:
    finder.active = False
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finder that delegates to those after it, and wraps their loaders."""

    def __init__(self, state: Callable[[], AbstractContextManager[object]], only: str | None) -> None:
        self.active = True
        self._state = state
        self._only = only

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        finders: list[Any] = list(sys.meta_path)
        if self._only not in {None, fullname} or self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: Any) -> None:
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type):  # built into Python: it makes no tensors
            return

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            with self._state() if self.active else nullcontext():
                execute(module)

        loader.exec_module = exec_module
