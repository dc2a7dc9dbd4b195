"""Tills charge the calls that a mode has dispatched. The first one is on the hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.interceptor.calls import tensors
from opcount.interceptor.plan import unpriced
from opcount.interceptor.symbolic import unguarded
from opcount.scope import Frame, Row
from opcount.scope.frame import Sink
from opcount.traffic import of_any_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opcount.interceptor.operator_steps import OperatorSteps, Recorded
    from opcount.interceptor.places import Located
    from opcount.interceptor.plan import Plan
    from opcount.scope.frame import Shapes

_COMPUTING = {t for t in vars(torch).values() if isinstance(t, torch.dtype) and (t.is_floating_point or t.is_complex)}
_NONE = 0
_NUMBERS = {int, float, bool}


class AnyTill(Protocol):
    """Interface of tills.

    Attributes:
        counts_steps: Whether an operator that stands for several steps is charged as these.
    """

    counts_steps: bool

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str, /
    ) -> None:
        """Charge a call that has run.

        Args:
            plan: How it is priced.
            out: What it returned.
            args: What it was given.
            kwargs: What it was given by name.
            frame: Where it ran.
            phase: In which phase.
        """

    def charge_steps(self, steps: OperatorSteps, recorded: Recorded, frame: Frame, phase: str, /) -> None:
        """Charge the steps that a call stands for, as they were recorded."""

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: Located, /) -> None:
        """Look at what a call returned that is not charged as one."""

    def add_rows(self, frame: Frame, rows: Mapping[Any, Row], /) -> None:
        """Add sums of calls that were priced before."""

    def deferred(self) -> Deferral:
        """Return a till that charges to this one later, or never."""


class Deferral(AnyTill, Protocol):
    """A till that keeps what it charges."""

    def pay(self) -> None:
        """Charge all that was kept."""


class Till:
    """Prices calls, and adds them to the tally of the frame where they ran. All threads of a count may share one."""

    counts_steps = True

    def charge(  # noqa: C901, PLR0912, PLR0915  (in parts, each would cost a call)
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Price a call that has run, and add it to the tally."""
        counts = cost = details = None
        joint = plan.joint
        if joint is not None:
            try:  # noqa: SIM105  (a context manager takes time)
                counts = joint(out, args, kwargs)
            except Exception:  # noqa: BLE001, S110  (a call of another kind)
                pass
        if counts is not None:
            plan = plan.usual or plan
        else:
            try:  # as `Plan.priced` does, a call of which would cost every operator 2 % more
                while plan.when is not None:
                    meets = plan.when(out, *args, **kwargs) if kwargs else plan.when(out, *args)
                    plan = plan.special if meets else plan.otherwise  # type: ignore[assignment]
                price = plan.price
                if price is not None:
                    cost = price(out, *args, **kwargs) if kwargs else price(out, *args)
            except Exception:
                if plan.from_user:
                    raise
                plan = unpriced(plan.operator, plan.traffic)
        try:
            dtype = args[0].dtype
        except (AttributeError, IndexError):
            dtype = None
        if dtype not in _COMPUTING:
            dtype = _computing_dtype(dtype, out, args, kwargs or {})
        key = (plan, phase, dtype)
        try:
            row = frame.rows[key]
        except KeyError:
            row = frame.rows[key] = Row(_shapes(out, args, kwargs or {}))
        row.calls += 1
        if counts is not None:
            macs, arith, activations, read, written = counts
            if activations is not _NONE:  # all products have some
                row.macs += macs
                row.activations += activations
            row.arith += arith
            row.bytes_read += read
            row.bytes_written += written
            return
        if cost is not None:
            macs, arith, activations = cost
            row.macs += macs
            row.arith += arith
            row.activations += activations
            if type(cost) is not Cost:
                details = cost
                row.repeated += cost.repeated
                row.causal += cost.causal
                row.buffer_bytes += cost.buffer_bytes
        traffic = plan.traffic
        if traffic is not None:
            try:
                read, written = traffic(out, args, kwargs)
            except Exception:  # noqa: BLE001  (a call that its rule does not know)
                read, written = of_any_call(out, args, kwargs)
            if details is not None:
                read = read if details.bytes_read is None else details.bytes_read
                written = written if details.bytes_written is None else details.bytes_written
            row.bytes_read += read
            row.bytes_written += written

    def charge_steps(self, steps: OperatorSteps, recorded: Recorded, frame: Frame, phase: str) -> None:
        """Add the steps to the tallies of the submodules that would have run them."""
        steps.charge(recorded, frame, phase)

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: Located) -> None:
        """Do nothing: a till that tracks memory does more."""

    def add_rows(self, frame: Frame, rows: Mapping[Any, Row]) -> None:
        """Add sums to the tally of a frame."""
        if isinstance(frame, Sink):  # the module around it is priced as a whole
            return
        for key, row in rows.items():
            if key not in frame.rows:
                frame.rows[key] = Row(row.shapes)
            frame.rows[key].add(row)

    def deferred(self) -> Deferral:
        """Return a till that keeps sums by frame until they are paid."""
        return DeferringTill(self)


_TILL = Till()


class DeferringTill:
    """Prices calls, and keeps the sums until it is certain that they are owed.

    Args:
        outer: Charged then.
    """

    counts_steps = False

    def __init__(self, outer: AnyTill) -> None:
        self._outer = outer
        self._kept: dict[Frame, Frame] = {}

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Keep a charge, in the place of the frame that it is for."""
        _TILL.charge(plan, out, args, kwargs, self._kept.setdefault(frame, Frame("")), phase)

    def charge_steps(self, steps: OperatorSteps, recorded: Recorded, frame: Frame, phase: str) -> None:
        """Refuse: steps are charged to frames of submodules, which are not kept."""
        raise NotImplementedError

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: Located) -> None:
        """Let the other till look."""
        self._outer.see(plan, out, args, kwargs, place)

    def add_rows(self, frame: Frame, rows: Mapping[Any, Row]) -> None:
        """Keep sums."""
        _TILL.add_rows(self._kept.setdefault(frame, Frame("")), rows)

    def deferred(self) -> Deferral:
        """Return a till that pays to this one."""
        return DeferringTill(self)

    def pay(self) -> None:
        """Charge all that was kept."""
        for frame, kept in self._kept.items():
            self._outer.add_rows(frame, kept.rows)


class NotingTill:
    """Charges to another till, and notes whether an operator was counted.

    Attributes:
        priced: Whether one was.
    """

    def __init__(self, outer: AnyTill) -> None:
        self._outer = outer
        self.counts_steps = outer.counts_steps
        self.see = outer.see
        self.priced = False

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Charge, and note it."""
        if plan.family != FREE:
            self.priced = True
        self._outer.charge(plan, out, args, kwargs, frame, phase)

    def charge_steps(self, steps: OperatorSteps, recorded: Recorded, frame: Frame, phase: str) -> None:
        """Charge, and note it."""
        self.priced = True
        self._outer.charge_steps(steps, recorded, frame, phase)

    def add_rows(self, frame: Frame, rows: Mapping[Any, Row]) -> None:
        """Charge, and note it."""
        self.priced = self.priced or any(plan.family != FREE for plan, *_ in rows)
        self._outer.add_rows(frame, rows)

    def deferred(self) -> Deferral:
        """Return a till that pays to this one."""
        return DeferringTill(self)


class UnguardedTill:
    """Charges fake tensors to another till: formulas compare sizes, and leave no guard behind."""

    def __init__(self, outer: AnyTill) -> None:
        self._outer = outer
        self.counts_steps = outer.counts_steps
        self.charge_steps = outer.charge_steps
        self.see = outer.see
        self.add_rows = outer.add_rows

    def charge(
        self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, frame: Frame, phase: str
    ) -> None:
        """Charge without guards."""
        with unguarded((*args, *(kwargs or {}).values(), out)):
            self._outer.charge(plan, out, args, kwargs, frame, phase)

    def deferred(self) -> Deferral:
        """Return a till that pays to the one behind this one."""
        return _UnguardedDeferral(self._outer.deferred())


class _UnguardedDeferral(UnguardedTill):
    """Keeps charges of fake tensors."""

    def __init__(self, outer: Deferral) -> None:
        super().__init__(outer)
        self.pay = outer.pay


def _computing_dtype(dtype: torch.dtype | None, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the dtype of the first floating-point tensor, else of the first tensor, of arguments then results."""
    for tensor in tensors((*args, *kwargs.values(), out)):
        own = tensor.dtype
        if own in _COMPUTING:
            return own
        dtype = dtype or own
    return dtype


def _shapes(out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes:
    """Return the shapes of a call's arguments and results."""
    return tuple(_shapes_of((*args, *kwargs.values()) if kwargs else args)), tuple(_shapes_of((out,)))


def _shapes_of(values: Sequence[Any]) -> list[tuple[int, ...] | None]:
    """Return the shapes of the tensors among values, those in lists included; a nested one has none."""
    shapes: list[tuple[int, ...] | None] = []
    for value in values:
        if isinstance(value, Tensor):
            try:
                shapes.append(value.shape)
            except RuntimeError:
                shapes.append(None)
        elif type(value) in _NUMBERS or not isinstance(value, (list, tuple)) or not value:
            continue
        elif type(value[0]) not in _NUMBERS:
            shapes += _shapes_of(value)
    return shapes
