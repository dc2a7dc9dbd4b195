"""Attributes of PyTorch's classes and modules that have other values while counters run."""

from __future__ import annotations

from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

from opcount.interceptor.function_code import code_that_calls, python_function, twin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, FunctionType

    from opcount.undo import Undo

    Make = Callable[[Any], Any]

_ABSENT = object()


class Patches:
    """Values in place of PyTorch's own, as long as anybody uses them; what a program puts there stays.

    Args:
        values: By class and attribute.
        around: By class and method, what makes a function from the one that it stands for, whoever made that one. A
            method in Python stays what it is and gets other code; another is replaced.
    """

    def __init__(
        self, values: Mapping[tuple[Any, str], Any], around: Mapping[tuple[Any, str], Make] | None = None
    ) -> None:
        self._around = around or {}
        self._made: list[tuple[Any, str, Any, Any]] = []
        self._codes: dict[FunctionType, tuple[CodeType, CodeType]] = {}
        self._values = [(*at, vars(at[0]).get(at[1], _ABSENT), value) for at, value in values.items()]
        self._users: set[Undo] = set()
        self._lock = RLock()  # reentrant: the collector may end another block while it is held

    def use(self, undo: Undo) -> None:
        """Have the values in place until the steps have run."""
        undo.add(partial(self._leave, undo))
        with self._lock:
            self._users.add(undo)
            for at, make in self._around.items():
                self._put_around(*at, make)
            for owner, name, before, value in (*self._values, *self._made):
                if vars(owner).get(name, _ABSENT) is before:
                    setattr(owner, name, value)

    def _put_around(self, owner: Any, name: str, make: Make) -> None:
        current = vars(owner)[name]
        function = python_function(current)
        if function is None:
            if all(value is not current for _, _, _, value in self._made):
                self._made.append((owner, name, current, make(current)))
            return
        codes = self._codes.get(function)
        if codes is None or function.__code__ not in codes:
            code = code_that_calls(make(twin_of(function)), function)
            codes = self._codes[function] = (function.__code__, code)
        function.__code__ = codes[1]

    def _leave(self, user: Undo) -> None:
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            for function, (before, code) in self._codes.items():
                if function.__code__ is code:
                    function.__code__ = before
            for owner, name, before, value in (*self._values, *self._made):
                if vars(owner).get(name) is not value:
                    continue
                if before is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)
            self._made = []
