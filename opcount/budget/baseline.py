"""Counts in a text file beside the test: one module a line, sorted, so that a review shows what changed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from opcount import files
from opcount.budget.places import natural
from opcount.budget.snapshot import Change, Snapshot, changes
from opcount.errors import BaselineError
from opcount.escapes import visible
from opcount.profile import ROOT
from opcount.selectors import UNITS

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    from opcount.budget.snapshot import Counts

FORMAT = 1
"""Raised when older versions could misread a file."""

_HEADER = re.compile(r"# opcount baseline (\d+), convention (.+), depth (\d+|all)")
_COUNT = re.compile(r"[0-9]{1,100}(?:_[0-9]{3}){0,40}")
_ROOT = "(model)"


def dump(snapshot: Snapshot) -> str:
    """Return a snapshot as text.

    Example:
        >>> counts = {"macs": 1200, "flops": 1200, "activations": 4, "params": 7}
        >>> print(dump(Snapshot("fvcore", {"": counts}, 2)), end="")
        # opcount baseline 1, convention fvcore, depth 2
        (model): macs=1_200 flops=1_200 activations=4 params=7
    """
    depth = "all" if snapshot.depth is None else snapshot.depth
    lines = [f"# opcount baseline {FORMAT}, convention {visible(snapshot.convention)}, depth {depth}"]
    for path in sorted(snapshot.modules, key=natural):
        if path and not any(snapshot.modules[path].values()):
            continue  # a module that costs nothing may come and go
        counts = " ".join(f"{metric}={snapshot.modules[path][metric]:_}" for metric in UNITS)
        lines.append(f"{_written(path)}: {counts}")
    return "\n".join(lines) + "\n"


def load(text: str, source: str) -> Snapshot:
    """Read what `dump` wrote.

    Args:
        text: The file's.
        source: What an error calls the file.

    Raises:
        BaselineError: The text is no baseline, or of a newer format.
    """
    lines = text.removesuffix("\n").split("\n") if text else []  # and not where names have other ends of lines
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        raise _corrupt(source, 1, lines[0] if lines else "")
    if int(header[1]) > FORMAT:
        raise BaselineError(
            f"{source}: expected a baseline of format 1 to {FORMAT}, got {header[1]}. "
            f"Read it with the opcount that wrote it, or a newer one; it is left as it is."
        )
    modules: dict[str, Counts] = {}
    for number, line in enumerate(lines[1:], start=2):
        path, counts = _read_line(line, number, source)
        if path in modules:
            raise _corrupt(source, number, line)
        modules[path] = counts
    return Snapshot(header[2], modules, None if header[3] == "all" else int(header[3]))


def read(path: Path) -> Snapshot | None:
    """Read a baseline file; None if there is none.

    Raises:
        BaselineError: The file cannot be read, is no baseline, or is of a newer format.
    """
    try:
        return load(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(
            f"{path}: expected a baseline, got {type(error).__name__}: {error}. Restore the file, or delete it."
        ) from error


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and its folder if there is none.

    Raises:
        BaselineError: It cannot be written; it is as it was before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text)
    except OSError as error:
        raise BaselineError(
            f"{path}: expected a file that can be written, got {type(error).__name__}: {error.strerror}. "
            f"Make room, or look at its permissions; it is as it was before."
        ) from error


def beyond(before: Snapshot, after: Snapshot, rtol: Fraction | int = 0) -> list[Change]:
    """Return what differs by more than ``rtol`` of its older count; a module that came or went always does."""
    return [
        change
        for change in changes(before, after)
        if (change.path in before.modules) != (change.path in after.modules)
        or abs(change.after - change.before) > rtol * change.before
    ]


def _read_line(line: str, number: int, source: str) -> tuple[str, Counts]:
    path, _, rest = line.rpartition(": ")
    pairs = [pair.partition("=") for pair in rest.split(" ")]
    if not path or [name for name, _, _ in pairs] != list(UNITS) or not all(_COUNT.fullmatch(c) for *_, c in pairs):
        raise _corrupt(source, number, line)
    return _path(path, number, source), {name: int(count) for name, _, count in pairs}


def _written(path: str) -> str:
    """Return what stands for a path: the path, or its JSON where a line could not hold it, or it would be misread."""
    if path == ROOT:
        return _ROOT
    return json.dumps(path) if path == _ROOT or path[0] == '"' or visible(path) != path else path


def _path(written: str, number: int, source: str) -> str:
    if written[0] != '"':
        return ROOT if written == _ROOT else written
    try:
        path = json.loads(written)
    except ValueError:
        path = None
    if not isinstance(path, str) or _written(path) != written:
        raise _corrupt(source, number, written)
    return path


def _corrupt(source: str, number: int, line: str) -> BaselineError:
    return BaselineError(
        f"{source}, line {number}: expected a line that opcount wrote, got {line[:80]!r}. "
        f"Restore the file, or delete it and run pytest with --flops-update; it is left as it is."
    )
