"""Grows the modules of a program, at random and not too deep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.generator.block import Block, Part
from tests.generator.parts import load

if TYPE_CHECKING:
    from tests.generator.draw import Draw


@dataclass
class Grow:
    """Place at which a program grows.

    Attributes:
        draw: The program's choices.
        depth: Levels of blocks that may still come below.
    """

    draw: Draw
    depth: int

    def block(self) -> Block:
        """Return a module of some parts."""
        parts = [self.part() for _ in range(self.draw.pick([1, 2, 2, 3, 4]))]
        return Block(self.draw.name("Block"), parts)

    def inner(self) -> Block:
        """Return a module one level below."""
        return Grow(self.draw, self.depth - 1).block()

    def part(self) -> Part:
        kinds = load()
        weights = {name: kind.weight for name, kind in kinds.items() if self.depth > 0 or not kind.deep}
        [name] = self.draw.kinds(weights, 1)
        made = kinds[name].make(self)
        made.name = name
        return made
