"""A filter that hides warnings while a model runs, and changes nothing else about them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def hidden_warnings() -> Iterator[None]:
    """Hide all warnings while the block runs.

    ``warnings.catch_warnings`` makes Python forget which warnings it has shown, and undoes the filters that the
    program sets meanwhile: `simplefilter` tells Python that the filters have changed, an insertion does not.
    """
    ignore = ("ignore", None, Warning, None, 0)
    with Undo() as undo:
        undo.add(partial(_remove, ignore))
        _filters().insert(0, ignore)
        yield


def _filters() -> list[Any]:
    filters: Any = warnings.filters
    return filters  # type: ignore[no-any-return]  # a list, said to be a sequence


def _remove(entry: object) -> None:
    """Remove a filter, not one that equals it: the program may have set such a one."""
    filters = _filters()
    for index in [index for index, other in enumerate(filters) if other is entry]:
        del filters[index]
