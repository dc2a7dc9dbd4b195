"""A model as plain data: what a report needs of it besides the counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet


class Node(NamedTuple):
    """One module as ``repr`` shows it.

    Attributes:
        path: Full dotted name of its first place in the model.
        type: What it calls itself.
        extra: The text of its ``extra_repr``.
        children: In order, by the name that its parent gives them; a module shared by two parents is one node.
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


@dataclass(frozen=True)
class Complexity:
    """What the reports in mmengine's layout show.

    Attributes:
        structure: The model.
        params: Elements by full name of parameter and module, in ``named_parameters`` order, parents first.
        columns: FLOPs, and perhaps activations, of every module, by the column's short name: ``flops``, ``acts``.
        uncalled: Full names of the modules that no operator ran under, for each column.
    """

    structure: Structure
    params: Mapping[str, int]
    columns: Mapping[str, Mapping[str, float]]
    uncalled: Mapping[str, AbstractSet[str]]


def children_of(names: Mapping[str, object]) -> dict[str, list[str]]:
    """Group full names by parent, each group in order; the root ``""`` is nobody's child.

    Example:
        >>> children_of(dict.fromkeys(["", "a", "b", "a.c"]))
        {'': ['a', 'b'], 'a': ['a.c']}
    """
    children: dict[str, list[str]] = {}
    for name in names:
        if name:
            children.setdefault(name.rpartition(".")[0], []).append(name)
    return children


def follows(name: str, following: str) -> bool:
    """Return whether two names are consecutive numbers, as those of repeated blocks are.

    Example:
        >>> follows("9", "10"), follows("9", "11"), follows("fc1", "fc2")
        (True, False, False)
    """
    numbers = name.isdecimal() and following.isdecimal() and len(name) < 19  # longer ones cost time, or are refused
    return numbers and len(following) < 20 and int(name) + 1 == int(following)
