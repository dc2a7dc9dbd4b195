"""Building blocks of programs: parts, which are lines of code, and blocks of them, which are modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import indent


@dataclass
class Part:
    """Lines of a module that turn ``x`` of ``(b, l, e)`` into another ``x`` of that shape.

    Attributes:
        forward: Lines of its ``forward``.
        init: Lines of its ``__init__``.
        above: Definitions that stand above the classes.
        blocks: Modules that it makes.
        traits: What the comparisons have to know; see `TRAITS`.
        name: Of the function that made it.
    """

    forward: list[str]
    init: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    traits: set[str] = field(default_factory=set)
    name: str = ""


TRAITS = {
    "data": "reads values of tensors, so that a dry run may refuse",
    "grad": "does other work with gradients than without",
    "random": "makes what random numbers decide, so that a dry run may refuse to make it",
    "unbooked": "multiplies where the book does not look, or by a rule that it does not know",
    "script": "is run by TorchScript, which runs it with other operators the second time",
    "higher": "runs functions by one operator, which transforms of functions may refuse",
    "no kernel": "may need a kernel that PyTorch does not have, which a dry run does not notice",
    "opaque": "computes out of PyTorch's sight, so that something has to be named as uncounted",
    "no inference": "cannot run in inference mode",
    "encoder": "has a fast path, which under autocast returns another dtype than a dry run (docs/limits.md)",
    "autocast": "runs something under autocast",
    "reentrant": "makes graphs in backward",
    "elsewhere": "runs backward on another thread",
    "threads": "makes graphs on several threads, which autograd does not tell apart",
}


@dataclass
class Block:
    """A module: its parts, one after the other."""

    name: str
    parts: list[Part]

    def text(self) -> str:
        """Return the class."""
        init = [line for part in self.parts for line in part.init]
        forward = [line for part in self.parts for line in part.forward]
        return (
            f"class {self.name}(nn.Module):\n"
            f"    def __init__(self):\n        super().__init__()\n{_lines(init)}"
            f"\n    def forward(self, x):\n{_lines(forward)}        return x\n"
        )

    def descendants(self) -> list[Block]:
        """Return the blocks below, the innermost first, and the block itself."""
        below = [inner for part in self.parts for block in part.blocks for inner in block.descendants()]
        return [*below, self]


def _lines(lines: list[str]) -> str:
    return "".join(indent(line, " " * 8) + "\n" for line in lines)
