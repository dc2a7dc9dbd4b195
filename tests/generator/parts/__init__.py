"""The parts that modules are made of. Each is a function from the choices of a program to some lines of code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.generator.block import Part
    from tests.generator.grow import Grow

PARTS: dict[str, Kind] = {}


@dataclass(frozen=True)
class Kind:
    """A kind of part.

    Attributes:
        make: Makes one.
        weight: How often, beside the others.
        deep: Whether it holds a block.
    """

    make: Callable[[Grow], Part]
    weight: float
    deep: bool


def part(weight: float = 1, *, deep: bool = False):
    """Register a kind of part under the function's name."""

    def register(make):
        PARTS[make.__name__] = Kind(make, weight, deep)
        return make

    return register


def load() -> dict[str, Kind]:
    """Import all files of parts."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return PARTS
