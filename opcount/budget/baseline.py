"""The counts of every module, compared with older ones, and kept in a text file: one module a line, for reviews."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from opcount import files
from opcount.diff import Side, compare_sides, shapes_by_name
from opcount.errors import BaselineError
from opcount.escapes import visible
from opcount.paths import natural
from opcount.profile import ROOT, Total
from opcount.records import TRAFFIC
from opcount.selectors import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction
    from pathlib import Path

    from opcount.diff import Change
    from opcount.profile import Profile

FORMAT = 1
"""Raised when older versions could misread a file."""

STORED = ("macs", "flops", "activations", "params")
"""The metrics that files hold, in this order; another one needs another `FORMAT`, here and for counts of tests."""

Counts = dict[str, int]
"""A count for every metric."""

_HEADER = re.compile(r"# opcount baseline ([0-9]{1,18}), convention (.+), depth ([0-9]{1,18}|all)")
_COUNT = re.compile(r"[0-9]{1,100}(?:_[0-9]{3}){0,40}")
_SHAPE = re.compile(r"[^=]+=\w+")
_ROOT = "(model)"


class ModuleCounts(NamedTuple):
    """The counts of every module, its children included, without the operators behind them.

    Attributes:
        convention: The name of the one that read the FLOPs.
        rows: Counts by path; the root is ``""``.
        depth: How many names the paths have at most; None: any number.
        weights: Shapes of the parameters of each module that has some of its own, ``"weight=64x3x7x7"``.
    """

    convention: str
    rows: Mapping[str, Counts]
    depth: int | None = None
    weights: Mapping[str, str] = {}


def take(profile: Profile, depth: int | None = None) -> ModuleCounts:
    """Return the counts of the modules of a profile, down to ``depth`` names.

    The root has the parameters of all that ran, without a model too.

    Example:
        >>> from opcount.profile import Profile
        >>> take(Profile()).rows
        {'': {'macs': 0, 'flops': 0, 'activations': 0, 'params': 0, 'bytes_read': 0, 'bytes_written': 0, 'traffic': 0, \
'buffer_bytes': 0, 'bus_bytes': 0}}
    """
    params = {path: module.params for path, module in profile.modules.items()}
    params.setdefault(ROOT, sum(count for path, count in params.items() if "." not in path))
    totals = {ROOT: Total(), **profile.by_module()}
    metrics = [m for m in UNITS if profile.knows_traffic or m not in TRAFFIC]
    rows = {
        path: {m: params.get(path, 0) if m == "params" else getattr(total, m) for m in metrics}
        for path, total in totals.items()
        if depth is None or _depth(path) <= depth
    }
    weights = {path: module.weights for path, module in profile.modules.items() if module.weights and path in rows}
    return ModuleCounts(profile.convention.name, rows, depth, weights)


def compare_counts(before: ModuleCounts, after: ModuleCounts) -> tuple[Change, ...]:
    """Return all modules of both, as far down as both go; a renamed one is recognised.

    A metric that one of the two lacks is 0, and so are FLOPs that they read under different conventions.
    """
    depth = min((counts.depth for counts in (before, after) if counts.depth is not None), default=None)
    metrics = _metrics(before) & _metrics(after)
    if visible(before.convention) != visible(after.convention):
        metrics -= {"flops"}
    return compare_sides(_side(before, depth, metrics), _side(after, depth, metrics))


def beyond(before: ModuleCounts, after: ModuleCounts, rtol: Fraction | int = 0) -> list[tuple[Change, str]]:
    """Return the modules and metrics that differ by more than ``rtol`` of the older count.

    A module that came or went always does.
    """
    found = [(change, metric, *change.values(metric)) for change in compare_counts(before, after) for metric in STORED]
    return [
        (change, metric)
        for change, metric, old, new in found
        if old != new and (None in (change.before, change.after) or abs(new - old) > rtol * old)
    ]


def own(counts: Mapping[str, int]) -> dict[str, int]:
    """Return for every path what its children among the paths do not explain, the largest first.

    Example:
        >>> own({"": 10, "a": 7, "a.b": 7, "c": 2})
        {'a.b': 7, 'c': 2, '': 1, 'a': 0}
    """
    rest = dict(counts)
    for path, count in counts.items():
        above = path
        while above:
            above = above.rpartition(".")[0]
            if above in counts:
                rest[above] -= count
                break
    return dict(sorted(rest.items(), key=lambda row: -abs(row[1])))


def dump(counts: ModuleCounts) -> str:
    """Return counts as text.

    Example:
        >>> row = {"macs": 1200, "flops": 1200, "activations": 4, "params": 7}
        >>> print(dump(ModuleCounts("fvcore", {"": row}, 2)), end="")
        # opcount baseline 1, convention fvcore, depth 2
        (model): macs=1_200 flops=1_200 activations=4 params=7
    """
    depth = "all" if counts.depth is None else counts.depth
    lines = [f"# opcount baseline {FORMAT}, convention {visible(counts.convention)}, depth {depth}"]
    for path in sorted(counts.rows, key=natural):
        row = counts.rows[path]
        if not path or any(row[metric] for metric in STORED):  # a module that costs nothing may come and go
            pairs = [*(f"{metric}={row[metric]:_}" for metric in STORED), *_shapes(counts.weights.get(path, ""))]
            lines.append(f"{_written(path)}: {' '.join(pairs)}")
    return "\n".join(lines) + "\n"


def load(text: str, source: str) -> ModuleCounts:
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
    rows: dict[str, Counts] = {}
    weights: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        path, counts, shapes = _read_line(line, number, source)
        if path in rows:
            raise _corrupt(source, number, line)
        rows[path] = counts
        if shapes:
            weights[path] = shapes
    return ModuleCounts(header[2], rows, None if header[3] == "all" else int(header[3]), weights)


def read(path: Path) -> ModuleCounts | None:
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


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _metrics(counts: ModuleCounts) -> set[str]:
    return set(next(iter(counts.rows.values()), ()))


def _side(counts: ModuleCounts, depth: int | None, metrics: set[str]) -> Side:
    rows = {path: row for path, row in counts.rows.items() if depth is None or _depth(path) <= depth}
    fields = metrics & set(Total._fields)
    totals = {path: Total(**{metric: row[metric] for metric in fields}) for path, row in rows.items()}
    shapes = {path: shapes_by_name(text) for path, text in counts.weights.items() if path in rows}
    return Side(totals, {path: row["params"] for path, row in rows.items()}, shapes=shapes)


def _read_line(line: str, number: int, source: str) -> tuple[str, Counts, str]:
    path, _, rest = line.rpartition(": ")
    words = rest.split(" ")
    pairs, shapes = [word.partition("=") for word in words[: len(STORED)]], words[len(STORED) :]
    valid = [name for name, _, _ in pairs] == list(STORED) and all(_COUNT.fullmatch(c) for *_, c in pairs)
    if not path or not valid or not all(map(_SHAPE.fullmatch, shapes)):
        raise _corrupt(source, number, line)
    return _path(path, number, source), {name: int(count) for name, _, count in pairs}, " ".join(shapes)


def _shapes(weights: str) -> list[str]:
    """Return the shapes of parameters as words of a line; those with a name that a line cannot hold are left out."""
    return [word for word in weights.split(" ") if _SHAPE.fullmatch(word) and visible(word) == word and ":" not in word]


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
