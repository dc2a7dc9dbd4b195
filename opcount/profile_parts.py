"""The parts of two profiles, added up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opcount.records import Module


def merge_counts(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """Add numbers by name."""
    counts = Counter(left)
    counts.update(right)
    return dict(counts)


def merge_modules(left: Mapping[str, Module], right: Mapping[str, Module]) -> dict[str, Module]:
    """Keep the modules of both, by path, and add up their calls."""
    modules = dict(left)
    for path, module in right.items():
        same = modules.get(path)
        modules[path] = module if same is None else same._replace(calls=same.calls + module.calls)
    return modules


def merge_provenance(left: Mapping[str, str], right: Mapping[str, str], without: str = "") -> dict[str, str]:
    """Keep equal values, and join different ones with a comma; leave one entry out."""
    merged = dict(left)
    for name, value in right.items():
        known = merged.setdefault(name, value)
        if value not in known.split(", "):
            merged[name] = f"{known}, {value}"
    merged.pop(without, None)
    return merged
