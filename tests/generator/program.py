"""One generated program: its text, and the functions that the text defines."""

from __future__ import annotations

import linecache
from dataclasses import dataclass, replace
from textwrap import indent
from typing import TYPE_CHECKING, Any

from tests.generator.actions import Action, actions
from tests.generator.draw import Draw
from tests.generator.grow import Grow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import nn

    from tests.generator.block import Block

HEADER = """\
import collections
import contextlib
import copy
import ctypes
import dataclasses
import functools
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from opcount import OpCounter
"""

FOOTER = """\
if __name__ == "__main__":
    model = build()
    with OpCounter(model) as c:
        run(model, c, [])
    print(c)
"""


@dataclass(frozen=True)
class Program:
    """A model and what is done with it.

    Attributes:
        seed: It was made from, and seeds its random numbers.
        block: The model.
        actions: What ``run`` does.
        size: ``(b, l, e)`` of its inputs.
    """

    seed: int
    block: Block
    actions: tuple[Action, ...]
    size: tuple[int, int, int]

    @property
    def traits(self) -> set[str]:
        """Facts for the comparisons; see `tests.generator.block.TRAITS`."""
        parts = [part for block in self.block.descendants() for part in block.parts]
        return {trait for each in (*parts, *self.actions) for trait in each.traits}

    @property
    def names(self) -> list[str]:
        """The kinds of parts and actions in it."""
        parts = [part for block in self.block.descendants() for part in block.parts]
        return [each.name for each in (*parts, *self.actions)]

    def text(self) -> str:
        """Return the program, to be read or run."""
        blocks = self.block.descendants()
        above = [text for block in blocks for part in block.parts for text in part.above]
        above += [text for each in self.actions for text in each.above]
        classes = [block.text() for block in blocks]
        return "\n\n".join([HEADER, *dict.fromkeys(above), *dict.fromkeys(classes), self._build(), self._run(), FOOTER])

    def _build(self) -> str:
        before = [line for each in self.actions for line in each.before]
        lines = [f"torch.manual_seed({self.seed})", f"model = {self.block.name}()", *before, "return model"]
        return "def build():\n" + indent("\n".join(lines), "    ") + "\n"

    def _run(self) -> str:
        lines = [line for each in self.actions for line in each.lines]
        return "def run(model, c, seen):\n" + indent("\n".join(lines or ["pass"]), "    ") + "\n"

    def functions(self) -> tuple[Callable[[], nn.Module], Callable[[nn.Module, Any, list[Any]], None]]:
        """Return ``build`` and ``run``."""
        space: dict[str, Any] = {"__name__": "generated"}
        text, file = self.text(), f"<program {self.seed}>"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # TorchScript reads it
        exec(compile(text, file, "exec", dont_inherit=True), space)  # noqa: S102  (the text is ours)
        return space["build"], space["run"]

    def smaller(self) -> list[Program]:
        """Return the programs that lack one action or part of this one."""
        fewer = [replace(self, actions=self.actions[:i] + self.actions[i + 1 :]) for i in range(len(self.actions))]
        return fewer + [replace(self, block=block) for block in _smaller(self.block)]


def _smaller(block: Block) -> list[Block]:
    """Return copies of a block that lack one part, or have a smaller block inside one."""
    found = []
    for i, part in enumerate(block.parts):
        found.append(replace(block, parts=block.parts[:i] + block.parts[i + 1 :]))
        for j, inner in enumerate(part.blocks):
            for less in _smaller(inner):
                changed = replace(part, blocks=[*part.blocks[:j], less, *part.blocks[j + 1 :]])
                found.append(replace(block, parts=[*block.parts[:i], changed, *block.parts[i + 1 :]]))
    return found


def program(seed: int, without: Collection[str] = (), often: Collection[str] = ()) -> Program:
    """Return the program of a seed."""
    draw = Draw(seed, without, often)
    block = Grow(draw, depth=draw.pick([0, 1, 1, 2])).block()
    return Program(seed, block, tuple(actions(draw, draw.pick([1, 1, 2, 3]))), (draw.b, draw.l, draw.e))
