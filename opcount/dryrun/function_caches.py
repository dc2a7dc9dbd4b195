"""Find functions with a ``functools.lru_cache``, once for each Python module."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from opcount.dryrun.places import Cache
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOUND: dict[str, tuple[int, tuple[Any, ...]]] = {}
"""Number of names and functions with a cache, by Python module."""


def caches_of(name: str) -> tuple[Any, ...]:
    """Return the functions with a cache that a Python module or its classes define, import or wrap."""
    module = sys.modules.get(name)
    if module is None:
        return ()
    known = _FOUND.get(name)
    if known is None or known[0] != len(vars(module)):
        values = list(vars(module).values())
        classes = [value for value in values if isinstance(value, type) and value.__module__ == name]
        members = [member for kind in classes for member in list(vars(kind).values())]
        found = {identity(cache): cache for value in (*values, *members) for cache in _caches_in(value)}
        known = _FOUND[name] = len(vars(module)), tuple(found.values())
    return known[1]


def _caches_in(value: Any) -> Iterator[Any]:
    """Yield a function with a cache, or those in a wrapper's closure."""
    value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    value = value.fget if isinstance(value, property) else value
    if isinstance(value, Cache):
        yield value
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            if isinstance(content, Cache):
                yield content
