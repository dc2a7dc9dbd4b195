"""The scopes of all threads that run modules, kept for a later backward."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from threading import get_ident
from typing import TYPE_CHECKING

from opcount.scope.frame import Frame
from opcount.scope.thread import FORWARD, Scope

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from opcount.scope.module_names import ModuleNames

_REMEMBERED = 64
"""Ended threads whose timelines are kept; older ones are merged into one tally."""


class ThreadScopes:
    """The scopes of all threads.

    Attributes:
        by_ident: The scope of each live thread, by its identifier.
        phase: Of forward operators.
        single: Whether no second thread is known.
        owner_of: Returns the path of the module that owns a parameter.
        path_of_all: Returns the path of the innermost module that has some modules and parameters inside.
        path_of_whole: Returns the path of the whole that a module is part of.

    Args:
        names: The paths of modules.
    """

    def __init__(self, names: ModuleNames) -> None:
        self.by_ident: dict[int, Scope] = {}
        self.phase = FORWARD
        self.single = True
        self.owner_of = names.owner_of
        self.path_of_all = names.path_of_all
        self.path_of_whole = names.path_of_whole
        self._threads: dict[int, weakref.ref[threading.Thread]] = {}
        self._checkpoints: MutableMapping[object, Frame] | None = None
        self._ended: list[Scope] = []
        self._merged = Frame("")
        self._merged_unattributed: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def checkpoints(self) -> MutableMapping[object, Frame]:
        """The frames that called the non-reentrant checkpoints that may run again."""
        if self._checkpoints is None:
            self._checkpoints = weakref.WeakKeyDictionary()
        return self._checkpoints

    def dismantle(self) -> None:
        """Break the cycles among frames and scopes, which would wait for Python's collector, with all the tallies."""
        for frame in self.frames():
            frame.children = {}
        for scope in self._all():
            scope.timeline.forget()
        self.by_ident.clear()
        self._ended.clear()

    def join(self) -> Scope:
        """Return the scope of the running thread, made at its first call."""
        ident, thread = get_ident(), threading.current_thread()
        with self._lock:
            scope = self.by_ident.get(ident)
            if scope is not None and self._threads[ident]() is thread:
                return scope
            if scope is not None:
                self._end(scope)
            scope = self.by_ident[ident] = Scope(self)
            self.single = len(self.by_ident) == 1 and not self._ended
            self._threads[ident] = weakref.ref(thread)
            return scope

    def _end(self, scope: Scope) -> None:
        """Keep the scope of an ended thread, whose identifier now belongs to another one."""
        self._ended.append(scope)
        if len(self._ended) > _REMEMBERED:
            oldest = self._ended.pop(0)
            self._merged.absorb(oldest.root)
            for reason, calls in oldest.unattributed.items():
                self._merged_unattributed[reason] = self._merged_unattributed.get(reason, 0) + calls

    def _all(self) -> list[Scope]:
        return [*self.by_ident.values(), *self._ended]

    def others(self, scope: Scope | None) -> list[Scope]:
        """Return the scopes of the other threads; all, if this one has none."""
        return [other for other in self._all() if other is not scope]

    def set_phase(self, name: str) -> str:
        """Name the phase of forward operators; return the name before."""
        before, self.phase = self.phase, name
        for scope in self._all():
            scope.set_phase(name)
        return before

    def frames(self) -> list[Frame]:
        """Return the frames of all threads."""
        roots = (self._merged, *(scope.root for scope in self._all()))
        return [frame for root in roots for frame in root.walk()]

    def unattributed(self) -> Counter[str]:
        """Return the operator calls whose module is unknown, by reason."""
        reasons = Counter(self._merged_unattributed)
        for scope in self._all():
            reasons.update(scope.unattributed)
        return reasons

    def forget_graphs(self) -> None:
        """Forget the creators of all autograd graphs so far, on the threads that do not observe."""
        for scope in self._all():
            if not scope.observing:
                scope.timeline.forget()

    def clear(self) -> None:
        """Clear the tally; the frames stay, a backward may need them."""
        self._merged = Frame("")
        self._merged_unattributed.clear()
        for scope in self._all():
            scope.root.clear()
            scope.unattributed.clear()
