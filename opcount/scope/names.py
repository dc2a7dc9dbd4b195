"""What a module is called: its path in the model, or its class if it is not of the model."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from opcount.profile import ROOT, Module

if TYPE_CHECKING:
    from collections.abc import Callable

_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Attributes that only wrappers have; they do not show in a path."""

_WRAPPERS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
"""Classes whose ``module`` is what they wrap."""


class _Foreign(NamedTuple):
    root: weakref.ref[nn.Module]
    modules: dict[str, Module]


class Names:
    """Paths of modules.

    Attributes:
        paths: By ``id``; the modules of the model are kept alive, foreign ones leave when they die.
        wrappers: Ids of modules that share the path of the module they wrap.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.model = model
        self.paths: dict[int, str] = {}
        self.wrappers: set[int] = set()
        self._alive: list[nn.Module] = []
        self._types: dict[str, str] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._foreign: dict[str, _Foreign] = {}
        self._leaves: dict[int, str] | None = None
        if model is not None:
            self._name_model(model)

    def _name_model(self, model: nn.Module) -> None:
        first: dict[str, nn.Module] = {}
        for path, module in _walk(model):
            known = self.paths.get(id(module))
            if known is not None:
                if path != known and path not in self._aliases.get(known, ()):
                    self._aliases[known] = (*self._aliases.get(known, ()), path)
                continue
            if path in first:
                self.wrappers.add(id(first[path]))
            first[path] = module
            self.paths[id(module)] = path
            self._types[path] = type(module).__name__
            self._alive.append(module)

    def path_of_foreign(self, module: nn.Module, caller: str) -> str:
        """Name a module that is not of the model by its class, below the module that calls it."""
        name = type(module).__name__
        path = base = f"{caller}.{name}" if caller else name
        number = 0
        while self._is_taken(path):
            number += 1
            path = f"{base}_{number}"
        modules = self._foreign[path].modules if path in self._foreign else {}
        self._foreign[path] = _Foreign(weakref.ref(module), modules)
        for below, child in _walk(module):
            if id(child) not in self.paths:
                child_path = f"{path}.{below}" if below else path
                self.paths[id(child)] = child_path
                modules[child_path] = Module(child_path, type(child).__name__, _count_parameters(child))
                weakref.finalize(child, self.paths.pop, id(child), None).atexit = False
        return path

    def _is_taken(self, path: str) -> bool:
        if path in self._types:
            return True
        return path in self._foreign and self._foreign[path].root() is not None

    def owner_of(self, variable: object) -> str:
        """Return the path of the module that owns a parameter; the root if none does."""
        if self._leaves is None:
            self._leaves = {}
            if self.model is not None:
                for path, module in _walk(self.model):
                    for parameter in module._parameters.values():
                        self._leaves.setdefault(id(parameter), path)
        return self._leaves.get(id(variable), ROOT)

    def refresh(self) -> None:
        """Name modules that were added to the model since, and forget which parameters it had."""
        self._leaves = None
        if self.model is not None:
            self._name_model(self.model)

    def count_parameters(self) -> int:
        """Count the elements of the model's parameters, a tied one once."""
        return 0 if self.model is None else _count_parameters(self.model)

    def table(self, calls: Callable[[str], int]) -> dict[str, Module]:
        """Return what is known of every module, the model's in ``named_modules`` order."""
        params = self._parameters_by_path()
        table = {
            path: Module(path, kind, params.get(path, 0), calls(path), self._aliases.get(path, ()))
            for path, kind in self._types.items()
        }
        for foreign in self._foreign.values():
            table.update((p, m._replace(calls=calls(p))) for p, m in foreign.modules.items())
        return table

    def _parameters_by_path(self) -> dict[str, int]:
        """Add up parameters, a tied one once under its first name, along the dotted parents of their paths."""
        totals: dict[str, int] = {}
        seen: set[int] = set()
        for path, module in _walk(self.model) if self.model is not None else ():
            own = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
            seen.update(map(id, own))
            if own:
                totals[path] = totals.get(path, 0) + sum(map(_elements, own))
        return _with_parents(totals)


def _with_parents(own: dict[str, int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for path, count in own.items():
        parent: str | None = path
        while parent is not None:
            totals[parent] = totals.get(parent, 0) + count
            parent = None if parent == ROOT else parent.rpartition(".")[0]
    return totals


def _walk(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return all modules with their paths, parents first, each alias on its own, wrappers' names left out."""
    found: list[tuple[str, nn.Module]] = []
    pending: list[tuple[str, nn.Module]] = [(ROOT, model)]
    seen: set[int] = set()
    while pending:
        path, module = pending.pop()
        found.append((path, module))
        if id(module) in seen:
            continue
        seen.add(id(module))
        wraps = type(module).__name__ in _WRAPPERS
        for name, child in reversed(module._modules.items()):
            if child is not None:
                hidden = name in _WRAPPED or (wraps and name == "module")
                pending.append((path if hidden else f"{path}.{name}" if path else name, child))
    return found


def _count_parameters(module: nn.Module) -> int:
    return sum(map(_elements, module.parameters()))


def _elements(parameter: nn.Parameter) -> int:
    """Count elements; a parameter that a lazy module has not made yet has none."""
    return 0 if isinstance(parameter, nn.parameter.UninitializedParameter) else parameter.numel()
