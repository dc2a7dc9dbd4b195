"""Attributes of PyTorch's classes and modules that have other values while counters run."""

from __future__ import annotations

from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opcount.undo import Undo

_ABSENT = object()


class Patches:
    """Values in place of PyTorch's own, as long as anybody uses them; what a program puts there stays.

    Args:
        values: By class and attribute.
        around: What makes a value from the one that it stands for, where others patch as well: dynamo does.
    """

    def __init__(
        self,
        values: Mapping[tuple[Any, str], Any],
        around: Mapping[tuple[Any, str], Callable[[Any], Any]] | None = None,
    ) -> None:
        self._around = around or {}
        self._made: list[tuple[Any, str, Any, Any]] = []
        self._values = [(*at, vars(at[0]).get(at[1], _ABSENT), value) for at, value in values.items()]
        self._users: set[Undo] = set()
        self._lock = RLock()  # reentrant: the collector may end another block while it is held

    def use(self, undo: Undo) -> None:
        """Have the values in place until the steps have run."""
        undo.add(partial(self._leave, undo))
        with self._lock:
            self._users.add(undo)
            if not self._made:
                self._made = [(*at, vars(at[0])[at[1]], make(vars(at[0])[at[1]])) for at, make in self._around.items()]
            for owner, name, before, value in (*self._values, *self._made):
                if vars(owner).get(name, _ABSENT) is before:
                    setattr(owner, name, value)

    def _leave(self, user: Undo) -> None:
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            for owner, name, before, value in (*self._values, *self._made):
                if vars(owner).get(name) is not value:
                    continue
                if before is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)
            self._made = []
