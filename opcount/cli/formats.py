"""The formats of a report: one renderer for each name after ``--format``."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opcount.cli.output import is_regular, warn, write
from opcount.devices import Device
from opcount.errors import InputError
from opcount.reporter import terminal, terminal_text
from opcount.reporter.memory import UNTRACKED
from opcount.reporter.suffixes import format_of
from opcount.reporter.table import closing_lines
from opcount.selectors import ModulePattern
from opcount.serialize import dump

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from opcount.profile import Profile
    from opcount.roofline import Roofline
    from opcount.structure import Structure

FORMATS = (
    "table", "arch", "tree", "operators", "memory", "communication", "markdown", "latex", "json", "csv", "html",
    "speedscope", "folded",
)  # fmt: skip

DIFF_FORMATS = ("table", "markdown", "html")

_OUTLINED = ("table", "tree", "markdown", "latex")
_OUTLINING = ("depth", "modules", "sort", "unfold")
_TABLES = ("table", "markdown", "latex")
_ON_DEVICE = ("table", "tree", "operators", "markdown", "latex", "json", "csv", "html")
_PLAIN = {"", ".log", ".out"}
"""Endings of names that ask for no format."""


def render(
    profile: Profile, options: argparse.Namespace, structure: Callable[[], Structure | None] = lambda: None
) -> str:
    """Return a profile in the format and convention asked for, and warn of options without an effect on it.

    Args:
        profile: What was counted.
        options: The command line.
        structure: Returns the model as plain data, which one format needs.

    Raises:
        InputError: No module matches ``--modules``, or the format needs a model and there is none.
    """
    name = chosen(options)
    _check_memory(profile, name)
    for option in _OUTLINING if name not in _OUTLINED else ():
        if (value := getattr(options, option)) is not None and value is not False:
            warn(f"--{option} has no effect with --format {name} (only with {', '.join(_OUTLINED)}).")
    if options.columns and name not in _TABLES:
        warn(f"--columns has no effect with --format {name} (only with {', '.join(_TABLES)}).")
    profile = profile.with_convention(options.convention) if options.convention else profile
    roofline = _roofline(profile, options)
    if roofline is not None and name not in _ON_DEVICE:
        warn(f"--on has no effect with --format {name} (only with {', '.join(_ON_DEVICE)}).")
    if name == "json":
        return dump(profile, indent=1, roofline=roofline) + "\n"
    styled = terminal_settings(options) if name == "table" else {}
    reporter = import_module(f"opcount.reporter.{'terminal' if styled else name}")
    settings: dict[str, Any] = {"structure": structure()} if name == "arch" else {}
    if name in _OUTLINED:
        settings = {"fold": not options.unfold, "sort": options.sort, "modules": options.modules}
        if options.depth is not None:
            settings["depth"] = options.depth
        if name in _TABLES:
            settings["columns"] = options.columns or None
        settings |= styled
        _check_modules(profile, options.modules)
    if roofline is not None and name in _ON_DEVICE:
        settings["roofline"] = roofline
    render_it = terminal_text.render_tree if name == "tree" and terminal_settings(options) else reporter.render
    text: str = render_it(profile, **settings)
    return text if text.endswith("\n") else f"{text}\n"


def wants_memory(options: argparse.Namespace) -> bool | str:
    """Return how live bytes are asked for, by an option or by a format; False: they are not."""
    return "allocator" if options.kernels else options.memory or chosen(options) == "memory"


def device_of_memory(options: argparse.Namespace, *, dry: bool) -> Device | None:
    """Return the device whose live bytes a dry run predicts: that of ``--on``, if it is a CUDA device."""
    if not dry or options.on is None or not wants_memory(options):
        return None
    device = Device.find(options.on)
    if device.capability is None:
        warn(f"--on: {device.name} has no compute capability, so live bytes are those of a CPU.")
        return None
    return device


def _roofline(profile: Profile, options: argparse.Namespace) -> Roofline | None:
    """Return the count on the device that was asked for."""
    return None if options.on is None else profile.on(options.on)


def terminal_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a report with colours; empty where standard output is no terminal, or rich is missing."""
    stream = sys.stdout
    if options.output is not None or options.name == "run" or stream is None or not stream.isatty():
        return {}
    if os.environ.get("TERM") == "dumb" or not terminal.is_installed():
        return {}
    return {"width": shutil.get_terminal_size().columns, "encoding": stream.encoding or "ascii"}


def show_totals(profile: Profile, options: argparse.Namespace) -> None:
    """Print the totals of a report that went to a file; not of one that went to a stream, where they might end up."""
    if goes_to_file(options):
        write(totals(profile, options), None)


def totals(profile: Profile, options: argparse.Namespace) -> str:
    """Return the lines below the table of a profile."""
    profile = profile.with_convention(options.convention) if options.convention else profile
    return "".join(f"{line}\n" for line in closing_lines(profile, _roofline(profile, options)))


def goes_to_file(options: argparse.Namespace) -> bool:
    """Return whether the report goes to a file, and there is a standard output for its totals."""
    return options.output is not None and is_regular(options.output) and sys.stdout is not None


def _check_memory(profile: Profile, name: str) -> None:
    if name == "memory" and profile.memory is None:
        raise InputError(f"--format: expected a count with live bytes for memory, got one without: {UNTRACKED}.")


def _check_modules(profile: Profile, text: str | None) -> None:
    if text is not None and not (pattern := ModulePattern(text)).find(profile):
        raise InputError(f"--modules: {pattern.explain_no_match(profile)}")


def chosen(options: argparse.Namespace) -> str:
    """Return the format: what was asked for, else what the output file's name says, else the table.

    Raises:
        InputError: The file's name ends in what no format has.
    """
    output: Path | None = options.output
    if options.format or output is None or output.suffix.lower() in _PLAIN or not is_regular(output):
        name: str = options.format or "table"
        return name
    return format_of(output, "-o")
