"""Formats by the ending of a file's name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from opcount.errors import InputError

if TYPE_CHECKING:
    from os import PathLike

    from opcount.profile import Profile

BY_SUFFIX = {
    ".speedscope.json": "speedscope",
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".tex": "latex",
    ".folded": "folded",
    ".txt": "table",
}
"""Formats, the longer endings first."""


def format_of(path: str | PathLike[str], who: str) -> str:
    """Return the format that a file's name asks for.

    Raises:
        InputError: It asks for none.
    """
    name = str(path).lower()
    found = next((known for suffix, known in BY_SUFFIX.items() if name.endswith(suffix)), None)
    if found is None:
        raise InputError(
            f"{who}: expected a file whose name ends in {', '.join(BY_SUFFIX)}, got {str(path)!r}. Name one of these."
        )
    return found


def render(profile: Profile, name: str) -> str:
    """Return a profile in a format; a newline ends it."""
    if name == "json":
        return profile.to_json(indent=1) + "\n"
    text: str = import_module(f"opcount.reporter.{name}").render(profile)
    return text if text.endswith("\n") else f"{text}\n"
