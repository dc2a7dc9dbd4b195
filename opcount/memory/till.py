"""Till that also tells a tracker of storages what each operator has returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.interceptor.till import DeferringTill, Till

if TYPE_CHECKING:
    from opcount.interceptor.places import Located
    from opcount.interceptor.plan import Plan
    from opcount.interceptor.till import AnyTill, Deferral
    from opcount.memory.tracker import Tracker
    from opcount.scope import Frame

_charge = Till.charge


class MemoryTill(Till):
    """Prices calls as `Till` does.

    Attributes:
        tracker: Told of each call; None: nobody is.
    """

    tracker: Tracker | None = None

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Price a call that has run, and account the memory that it has made."""
        _charge(self, plan, out, args, kwargs, frame, phase)
        tracker = self.tracker
        if tracker is not None:
            tracker.see(plan, out, args, kwargs, frame, phase)

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: Located) -> None:
        """Account the memory of a call that is charged as steps."""
        if self.tracker is not None:
            self.tracker.see(plan, out, args, kwargs, *place)

    def deferred(self) -> Deferral:
        """Return a till that keeps sums until they are paid; memory is accounted at once, as it cannot be later."""
        return _Deferral(self, self)


class _Deferral(DeferringTill):
    """Keeps charges for a till.

    Args:
        outer: Charged when they are owed.
        till: Its tracker is told at once.
    """

    def __init__(self, outer: AnyTill, till: MemoryTill) -> None:
        super().__init__(outer)
        self._till = till

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Keep a charge, and account the memory."""
        super().charge(plan, out, args, kwargs, frame, phase)
        tracker = self._till.tracker
        if tracker is not None:
            tracker.see(plan, out, args, kwargs, frame, phase)

    def deferred(self) -> Deferral:
        """Return a till that pays to this one."""
        return _Deferral(self, self._till)
