"""The interceptors of one count, one for each thread."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from opcount.interceptor.function_calls import FunctionCalls
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.origins import Origins
from opcount.interceptor.paused import PassThrough
from opcount.interceptor.plan import Plan, unpriced
from opcount.interceptor.recorder import Recordings
from opcount.interceptor.scripts import hidden_kernels
from opcount.interceptor.stack import interceptors
from opcount.interceptor.symbolic import unguarded
from opcount.interceptor.till import Till

if TYPE_CHECKING:
    from opcount.interceptor.planner import Planner
    from opcount.interceptor.recall import Recall
    from opcount.interceptor.till import AnyTill
    from opcount.scope import Frame, Scope
    from opcount.undo import Undo


class ThreadInterceptors:
    """Interceptors that are paused and resumed together.

    It knows nothing of the counter, so that a counter which is dropped while it counts can be collected.

    Args:
        planner: Decides how operators are priced, once for all threads.
        recall: Asks the dry run that the count is in; None: it never is.
        till: Prices what runs.
    """

    def __init__(self, planner: Planner, recall: Recall | None = None, till: Till | None = None) -> None:
        self._planner = planner
        self._recall = recall
        self._functions = FunctionCalls(planner)
        self._plans: dict[Any, Plan] = {}
        self._paused: dict[Any, Plan] | None = None
        self._till = till or Till()
        self._record = Recordings(planner)
        self._modes: weakref.WeakSet[Interceptor] = weakref.WeakSet()

    def enlist(self, scope: Scope) -> Interceptor:
        """Return an interceptor that charges to a scope."""
        plans = self._plans if self._paused is None else self._paused
        origins = Origins(scope, partial(charge_unpriced, self._till, scope))
        mode = Interceptor(self._planner, scope, plans, self._till, self._functions, origins, self._record)
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
                mode.origins.forget()

    def charge_module(
        self, module: Any, frame: Frame, phase: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Charge the forward of a module that is priced as a whole."""
        if self._paused is None:
            plan = self._planner.module_plan(type(module))
            with unguarded((*args, *kwargs.values(), out)):
                self._till.charge(plan, out, args, kwargs, frame, phase)
            for mode in interceptors():
                if mode.functions is self._functions:
                    mode.note(plan, out, args, kwargs)
                    return

    def charge_script(self, module: Any, frame: Frame, phase: str, _out: Any) -> None:
        """Name the kernels that ran unseen in a ScriptModule."""
        if self._paused is None:
            for name in hidden_kernels(module):
                self._till.charge(unpriced(name), None, (), {}, frame, phase)


def charge_unpriced(till: AnyTill, scope: Scope, operator: str, out: Any) -> None:
    """Name an operator as uncounted, in the running module."""
    till.charge(unpriced(operator), out, (), {}, *scope.locate())
