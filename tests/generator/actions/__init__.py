"""Actions of programs on their model. Each is a function from the choices of a program to some lines of code."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.generator.draw import Draw


@dataclass
class Action:
    """Lines of ``run(model, c, seen)``, which puts what it computes into ``seen``.

    Attributes:
        lines: Of the body.
        before: Lines of ``build()``, which do something to the model.
        above: Definitions that stand above the functions.
        traits: What the comparisons have to know; see `tests.generator.block.TRAITS`.
        name: Of the function that made it.
    """

    lines: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    traits: set[str] = field(default_factory=set)
    name: str = ""


ACTIONS: dict[str, tuple[Callable[[Draw], Action], float]] = {}


def action(weight: float = 1):
    """Register a kind of action under the function's name."""

    def register(make):
        ACTIONS[make.__name__] = (make, weight)
        return make

    return register


def actions(draw: Draw, count: int) -> list[Action]:
    """Return some actions."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    made = []
    for name in draw.kinds({name: weight for name, (_, weight) in ACTIONS.items()}, count):
        new = ACTIONS[name][0](draw)
        new.name = name
        made.append(new)
    return made
