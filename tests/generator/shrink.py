"""Makes a failing program smaller for as long as it fails the same check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.generator.compare import complaints

if TYPE_CHECKING:
    from tests.generator.program import Program

TRIES = 150


def shrink(program: Program, found: dict[str, list[str]]) -> tuple[Program, dict[str, list[str]]]:
    """Return the smallest program found that fails the first check that the given one fails."""
    name, tries = next(iter(found)), 0
    progress = True
    while progress:
        progress = False
        for less in program.smaller():
            tries += 1
            if tries > TRIES:
                return program, found
            still = complaints(less, name)
            if name in still:
                program, found, progress = less, still, True
                break
    return program, found
