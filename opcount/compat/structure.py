"""A model, read into the plain data that reports are made of."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import nn

from opcount._torch.modules import class_name_of, submodules_of
from opcount.reporter.structure import Node, Structure

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEVER_CALLED = (nn.ModuleList.forward, nn.ModuleDict.forward, nn.Module.forward, nn.Identity.forward)


def structure_of(model: nn.Module) -> Structure:
    """Return the modules as ``repr`` shows them, and the shapes of the parameters."""
    return Structure(
        root=_Reader().read("", model),
        modules=tuple(path for path, _ in walk(model)),
        parameters={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
    )


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module once with its full name, parents first, whatever a subclass makes of ``named_modules``."""
    seen: set[int] = set()
    pending = [("", model)]
    while pending:
        path, module = pending.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        children = [
            (f"{path}.{key}" if path else key, child) for key, child in children_of(module) if child is not None
        ]
        pending += reversed(children)


def children_of(module: nn.Module) -> list[tuple[str, nn.Module | None]]:
    """Return the children by name: all of them, where ``named_children`` leaves out the shared and the absent."""
    return list(submodules_of(module).items())


def forward_of(module: nn.Module) -> object:
    """Return the forward that a module's class has; a scripted module's cannot be asked for."""
    return inspect.getattr_static(type(module), "forward", None)


def is_meant_to_be_called(module: nn.Module) -> bool:
    """Return whether a call of the module would do something: not of containers, nor of an identity."""
    return forward_of(module) not in _NEVER_CALLED


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Return for every name that a module can be reached by the name that it is counted under."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    pending: list[tuple[str, nn.Module, frozenset[int]]] = [("", model, frozenset())]
    while pending:
        path, module, above = pending.pop()
        names[path] = first.setdefault(id(module), path)
        if id(module) in above:
            continue
        below = above | {id(module)}
        children = [
            (f"{path}.{key}" if path else key, child) for key, child in children_of(module) if child is not None
        ]
        pending += ((name, child, below) for name, child in reversed(children))
    return names


class _Reader:
    """Reads a tree of nodes; a module that is shared is read once."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._open: set[int] = set()

    def read(self, path: str, module: nn.Module) -> Node:
        key = id(module)
        if key not in self._nodes:
            self._open.add(key)
            children = tuple(self._child(path, name, child) for name, child in children_of(module))
            self._open.discard(key)
            self._nodes[key] = Node(path, class_name_of(module), module.extra_repr(), children)
        return self._nodes[key]

    def _child(self, path: str, name: str, child: nn.Module | None) -> tuple[str, Node | None]:
        full = f"{path}.{name}" if path else name
        if child is None:
            return name, None
        if id(child) in self._open:  # a module inside itself: repr() would never end
            return name, Node(full, class_name_of(child), "...")
        return name, self.read(full, child)
