"""The interceptors of one count, one for each thread."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from opcount.interceptor.function_calls import FunctionCalls
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.plan import PassThrough, Plan
from opcount.interceptor.scripts import hidden_kernels

if TYPE_CHECKING:
    from opcount.interceptor.planner import Planner
    from opcount.interceptor.recall import Recall
    from opcount.scope import Frame, Scope
    from opcount.undo import Undo


class ThreadInterceptors:
    """Interceptors that are paused and resumed together.

    It knows nothing of the counter, so that a counter which is dropped while it counts can be collected.

    Args:
        planner: Decides how operators are priced, once for all threads.
        recall: Asks the dry run that the count is in; None: it never is.
    """

    def __init__(self, planner: Planner, recall: Recall | None = None) -> None:
        self._planner = planner
        self._recall = recall
        self._functions = FunctionCalls(planner)
        self._plans: dict[Any, Plan] = {}
        self._paused: dict[Any, Plan] | None = None
        self._modes: weakref.WeakSet[Interceptor] = weakref.WeakSet()

    def enlist(self, scope: Scope) -> Interceptor:
        """Return an interceptor that charges to a scope."""
        plans = self._plans if self._paused is None else self._paused
        mode = Interceptor(self._planner, scope, plans, self._functions)
        self._modes.add(mode)
        return mode

    def adopt(self, scope: Scope, undo: Undo) -> None:
        """Count on this thread, charging to a scope, until the steps have run; compute nothing there in a dry run."""
        if self._recall is not None:
            self._recall.join(undo)
        self.enlist(scope).push_here(undo)

    def pause(self) -> None:
        """Charge nothing until `resume`."""
        self._switch(PassThrough())

    def resume(self) -> None:
        """Charge again."""
        self._switch(None)

    def _switch(self, paused: dict[Any, Plan] | None) -> None:
        self._paused = paused
        for mode in list(self._modes):
            mode.plans = self._plans if paused is None else paused
            if mode.origins is not None:
                mode.origins.forget(mode)

    def charge_module(
        self, module: Any, frame: Frame, phase: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Charge the forward of a module that is priced as a whole."""
        if self._paused is None:
            plan = self._planner.module_plan(type(module))
            next(iter(self._modes)).charge(plan, out, args, kwargs, (frame, phase))

    def charge_script(self, module: Any, frame: Frame, phase: str, _out: Any) -> None:
        """Name the kernels that ran unseen in a ScriptModule."""
        if self._paused is None:
            mode = next(iter(self._modes))
            for name in hidden_kernels(module):
                mode.charge(mode.unpriced(name), None, (), {}, (frame, phase))
