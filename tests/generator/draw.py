"""Seeded choices: the sizes, names and parts of one program."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

T = TypeVar("T")


@dataclass
class Draw:
    """The choices of one program; every part maps ``(b, l, e)`` to ``(b, l, e)``, so that any of them can be left out.

    Attributes:
        seed: Decides all of them.
        without: Names of parts and actions that are not to be used.
        often: Names of those that are to be used often.
    """

    seed: int
    without: Collection[str] = ()
    often: Collection[str] = ()
    b: int = 0
    l: int = 0  # noqa: E741  (the letter for a length)
    e: int = 0
    random: Random = field(init=False, repr=False)
    names: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.b, self.l, self.e = self.pick([1, 2, 3]), self.pick([2, 3, 4]), self.pick([4, 6, 8])

    def pick(self, values: Sequence[T]) -> T:
        return self.random.choice(values)

    def kinds(self, weights: dict[str, float], count: int) -> list[str]:
        """Return names of parts or actions."""
        names = [name for name in weights if name not in self.without]
        often = [weights[name] * (20 if name in self.often else 1) for name in names]
        return self.random.choices(names, often, k=count)

    def size(self) -> int:
        """Return an inner size; products of different ones rarely are alike."""
        return self.random.randint(2, 9)

    def even(self) -> int:
        return 2 * self.random.randint(1, 4)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def name(self, stem: str) -> str:
        """Return a name that nothing else in the program has."""
        self.names += 1
        return f"{stem}{self.names}"
