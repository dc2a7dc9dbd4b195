"""Names of modules that begin with a class, as PyTorch's ``ModuleTracker`` gives them: ``ResNet.layer1.0``."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from opcount.scope.module_names import ModuleNames

if TYPE_CHECKING:
    from torch import nn


class ClassNames(ModuleNames):
    """Paths below the class of the outermost module that was called; modules of one name share a path.

    A module that was called on its own before it is met inside another bears its name in there from then on. Wrappers
    are modules like any other.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._descended: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def path_of_new(self, module: nn.Module, caller: str) -> str:
        """Name a module by its class, wherever it is called, and all modules below it."""
        del caller
        path = self._original(module)
        if path is None:
            path = type(module).__name__
            self._name(module, path)
            self._descend(module, path)
        return path

    def _descend(self, module: nn.Module, path: str) -> None:
        """Name the modules below one; those below a shared one keep the names that they had at its first place."""
        if module in self._descended:
            return
        self._descended.add(module)
        for name, child in module.named_children():
            self._name(child, f"{path}.{name}")
            self._descend(child, f"{path}.{name}")
