"""Makes a failing program smaller for as long as it fails in the same way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.generator.compare import complaints

if TYPE_CHECKING:
    from tests.generator.program import Program

TRIES = 150


def shrink(program: Program, found: dict[str, list[str]]) -> tuple[Program, dict[str, list[str]]]:
    """Return the smallest program found that fails the first check that the given one fails, with the same words."""
    name, tries = next(iter(found)), 0
    kinds = _kinds(found[name])
    progress = True
    while progress:
        progress = False
        for less in program.smaller():
            tries += 1
            if tries > TRIES:
                return program, found
            still = complaints(less, [name])
            if kinds & _kinds(still.get(name, [])):
                program, found, progress = less, still, True
                break
    return program, found


def _kinds(lines: list[str]) -> set[str]:
    """Return what is said, without names and numbers."""
    return {re.sub(r"[\w.]*\d[\w.]*|'[\w.]*'", "_", line) for line in lines}
