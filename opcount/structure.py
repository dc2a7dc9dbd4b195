"""A model as plain data: its modules as ``repr`` shows them, and its parameters."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from opcount._torch.modules import class_name_of, submodules_of
from opcount._torch.tracing import untraced
from opcount.identity import identity
from opcount.paths import parents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn


class Node(NamedTuple):
    """One module as ``repr`` shows it.

    Attributes:
        path: Full dotted name of its first place in the model.
        type: Name of its class, as the module tells it.
        extra: The text of its ``extra_repr``.
        children: In order, by the name that the parent gives them; a module shared by two parents is one node.
    """

    path: str
    type: str
    extra: str = ""
    children: tuple[tuple[str, Node | None], ...] = ()


@dataclass(frozen=True)
class Structure:
    """A whole model.

    Attributes:
        root: The tree.
        modules: Full names of all modules, a shared one once under its first name, parents first.
        parameters: Shapes by full name in ``named_parameters`` order, a tied one once.
    """

    root: Node
    modules: tuple[str, ...] = ("",)
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def params(self) -> Mapping[str, int]:
        """Elements of every parameter and of every module that has any, by full name, parents first."""
        return _sums({name: math.prod(shape) for name, shape in self.parameters.items()})


@untraced()
def structure_of(model: nn.Module) -> Structure:
    """Return the modules as ``repr`` shows them, and the shapes of the parameters."""
    return Structure(
        root=_Reader().read("", model),
        modules=tuple(path for path, _ in walk(model)),
        parameters={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
    )


@untraced()
def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """Return the elements of every parameter and every module that has any; the model is ``""``.

    A tied parameter counts once, under its first name, as ``named_parameters`` lists it.

    Example:
        >>> from torch import nn
        >>> dict(parameter_count(nn.Sequential(nn.Linear(2, 3))))
        {'': 9, '0': 9, '0.weight': 6, '0.bias': 3}
    """
    return _sums({name: parameter.numel() for name, parameter in model.named_parameters()})


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module once with its full name, parents first, whatever a subclass makes of ``named_modules``."""
    seen: set[int] = set()
    pending = [("", model)]
    while pending:
        path, module = pending.pop()
        if identity(module) not in seen:
            seen.add(identity(module))
            yield path, module
            pending += reversed(list(_children(path, module)))


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Return for every name of a module the name that it is counted under: a shared module has several."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    pending: list[tuple[str, nn.Module, frozenset[int]]] = [("", model, frozenset())]
    while pending:
        path, module, above = pending.pop()
        names[path] = first.setdefault(identity(module), path)
        if identity(module) not in above:
            below = above | {identity(module)}
            pending += [(name, child, below) for name, child in reversed(list(_children(path, module)))]
    return names


def _children(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children with their full names, shared ones too, which ``named_children`` leaves out."""
    for key, child in submodules_of(module).items():
        if child is not None:
            yield f"{path}.{key}" if path else key, child


def _sums(elements: Mapping[str, int]) -> defaultdict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for name, number in elements.items():
        for path in parents(name):
            sums[path] += number
    return sums


class _Reader:
    """Reads a tree of nodes; a module that is shared is read once."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._open: set[int] = set()

    def read(self, path: str, module: nn.Module) -> Node:
        key = identity(module)
        if key not in self._nodes:
            self._open.add(key)
            children = tuple(self._child(path, name, child) for name, child in submodules_of(module).items())
            self._open.discard(key)
            self._nodes[key] = Node(path, class_name_of(module), module.extra_repr(), children)
        return self._nodes[key]

    def _child(self, path: str, name: str, child: nn.Module | None) -> tuple[str, Node | None]:
        full = f"{path}.{name}" if path else name
        if child is None:
            return name, None
        if identity(child) in self._open:  # a module inside itself: repr() would never end
            return name, Node(full, class_name_of(child), "...")
        return name, self.read(full, child)
