"""The running modules of each thread, kept around their calls; uses nothing of opcount."""

from __future__ import annotations

from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

running_task = torch._C._current_graph_task_id
"""Returns a number for the innermost backward that is running on this thread; -1 outside of any."""


class Place(NamedTuple):
    """Modules in which operators run.

    Attributes:
        path: Of the innermost module that the model knows.
        task: The backward inside of which it was called.
    """

    path: str
    task: int


class Running(local):
    """Modules that run on a thread.

    Attributes:
        places: The modules, the innermost last.
        graphs: Of the backwards: whether they can be differentiated.
        kept: How many checkpoints run again whose products were kept.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.graphs: list[bool] = []
        self.kept = 0

    @property
    def path(self) -> str:
        return self.places[-1].path if self.places else ""

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Run at a place, whatever happens there."""
        depth = len(self.places)
        self.places.append(Place(path, running_task()))
        try:
            yield
        finally:
            del self.places[depth:]


class Paths:
    """Paths of modules in a model that may grow."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._paths: dict[nn.Module, str] = {}
        self._owners: dict[int, str] = {}
        self._look()

    def of(self, module: nn.Module, default: str) -> str:
        """Return the path of a module; that of its caller for one that is not in the model."""
        if module not in self._paths:
            self._look()
        return self._paths.get(module, default)

    def owner(self, parameter: torch.Tensor) -> str:
        """Return the path of the module that has a parameter."""
        return self._owners.get(id(parameter), "")

    def _look(self) -> None:
        for path, module in self._model.named_modules():
            self._paths.setdefault(module, path)
            for parameter in module.parameters(recurse=False):
                self._owners.setdefault(id(parameter), path)
