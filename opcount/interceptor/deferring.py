"""An interceptor whose charges are kept until it is certain that they are owed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.interceptor.mode import Interceptor
from opcount.scope import Frame, Row
from opcount.scope.frame import Sink

if TYPE_CHECKING:
    from opcount.interceptor.mode import Place
    from opcount.interceptor.plan import Plan


class Deferring(Interceptor):
    """The same interceptor once more, which charges later or never.

    Args:
        outer: It.
    """

    counts_steps = False

    def __init__(self, outer: Interceptor) -> None:
        super().__init__(outer.planner, outer.scope, outer.plans, outer.functions)
        self.origins, self.root = outer.origins, outer.root
        self._kept: dict[Frame, Frame] = {}
        self._known = set() if self.origins is None else set(self.origins.states)

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, at: Place | None = None
    ) -> None:
        """Keep a charge, in the place of the frame that it is for."""
        frame, phase = at or self.scope.locate()
        kept = self._kept.setdefault(frame, Frame(""))
        super().charge(plan, out, args, kwargs, (kept, phase))
        self.note(plan, out, args, kwargs or {})

    def charge_deferred(self) -> None:
        """Charge all that was kept."""
        for frame, kept in self._kept.items():
            if isinstance(frame, Sink):  # the module around it is priced as a whole
                continue
            for key, row in kept.rows.items():
                if key not in frame.rows:
                    frame.rows[key] = Row(row.shapes)
                frame.rows[key].add(row)

    def drop(self) -> None:
        """Forget all that was kept, and the memory that was allocated meanwhile: whoever writes to it is known."""
        if self.origins is not None:
            for key in set(self.origins.states) - self._known:
                self.origins.states.drop(key)
            self.origins.settle(self.root)
