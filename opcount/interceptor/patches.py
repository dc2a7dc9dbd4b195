"""Attributes of PyTorch's classes and modules that have other values while counters run."""

from __future__ import annotations

from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opcount.undo import Undo

_ABSENT = object()


class Patches:
    """Values in place of PyTorch's own, as long as anybody uses them; what a program puts there stays.

    Args:
        values: By class and attribute.
    """

    def __init__(self, values: Mapping[tuple[Any, str], Any]) -> None:
        self._values = [(*at, vars(at[0]).get(at[1], _ABSENT), value) for at, value in values.items()]
        self._users: set[Undo] = set()
        self._lock = RLock()  # reentrant: the collector may end another block while it is held

    def use(self, undo: Undo) -> None:
        """Have the values in place until the steps have run."""
        undo.add(partial(self._leave, undo))
        with self._lock:
            self._users.add(undo)
            for owner, name, before, value in self._values:
                if vars(owner).get(name, _ABSENT) is before:
                    setattr(owner, name, value)

    def _leave(self, user: Undo) -> None:
        with self._lock:
            self._users.discard(user)
            for owner, name, before, value in () if self._users else self._values:
                if vars(owner).get(name) is not value:
                    continue
                if before is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)
