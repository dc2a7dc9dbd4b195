"""Import modules outside of a dry run: tensors that they make at import time have to be real."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import disabled_modes
from opcount._torch.stand_ins import default_device
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    import torch


@contextmanager
def imports_undisturbed() -> Iterator[None]:
    """Run the code of imported modules without the block's device and modes.

    A module outlives the block, and so would a fake constant, or one on the meta device.
    """
    finder = _Finder(default_device())
    _import_what_disables_modes()
    with Undo() as undo:
        undo.add(partial(_remove, finder))
        sys.meta_path.insert(0, finder)
        yield


@cache
def _import_what_disables_modes() -> None:
    """Have PyTorch import what it needs to disable modes, before that is called for an import."""
    with disabled_modes():
        pass


def _remove(finder: _Finder) -> None:
    finder.active = False
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finder that delegates to the others, and wraps their loaders."""

    def __init__(self, device: torch.device) -> None:
        self.active = True
        self._device = device

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
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
            with disabled_modes() if self.active else nullcontext(), self._device:
                execute(module)

        loader.exec_module = exec_module
