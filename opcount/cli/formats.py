"""How a profile is printed: one renderer for each name after ``--format``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from opcount.profile import Profile

FORMATS = ("table", "arch", "tree", "operators", "markdown", "json", "csv", "html", "speedscope", "folded")

_OUTLINED = ("table", "tree", "markdown")
_BY_SUFFIX = {".json": "json", ".csv": "csv", ".md": "markdown", ".html": "html", ".folded": "folded"}


def render(profile: Profile, options: argparse.Namespace) -> str:
    """Return a profile in the format that was asked for; ``arch`` needs the model, and is not made here."""
    name = chosen(options)
    if options.convention:
        profile = profile.with_convention(options.convention)
    if name == "json":
        return profile.to_json(indent=1) + "\n"
    reporter = import_module(f"opcount.reporter.{name}")
    settings: dict[str, Any] = {}
    if name in _OUTLINED:
        settings = {"fold": not options.unfold, "sort": options.sort, "modules": options.modules}
        if options.depth is not None:
            settings["depth"] = options.depth
    text: str = reporter.render(profile, **settings)
    return text if text.endswith("\n") else f"{text}\n"


def chosen(options: argparse.Namespace) -> str:
    """Return the format: what was asked for, else what the output file's name says, else the table."""
    output: Path | None = options.output
    name: str = options.format or (_BY_SUFFIX.get(output.suffix, "table") if output else "table")
    return name
