"""Plans: how calls of one operator are run and priced. Handlers run the calls that need more than that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opcount.coverage import UNCOUNTED
from opcount.records import Collective
from opcount.traffic import of_any_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

    from opcount._torch.dispatch import OpOverload
    from opcount.cost import Cost
    from opcount.interceptor.operator_steps import OperatorSteps
    from opcount.interceptor.origins import Origins
    from opcount.interceptor.places import Located, Places
    from opcount.interceptor.watching import Watching
    from opcount.registry import Pricing
    from opcount.traffic import Joint, Traffic


class Mode(Protocol):
    """A dispatch mode that counts, as handlers see it.

    Attributes:
        in_subclass: Whether the operators are those that a tensor subclass runs for another.
        sees_fakes: Whether it has met fake tensors outside of a dry run.
    """

    in_subclass: bool
    sees_fakes: bool

    @property
    def counts_steps(self) -> bool:
        """True if an operator that stands for several steps is charged as these."""

    @property
    def is_paused(self) -> bool:
        """True if nothing is charged."""

    @property
    def scope(self) -> Places:
        """The places of operators."""

    @property
    def origins(self) -> Origins | None:
        """Knowledge about storages; None: nobody asks."""

    def run(self, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator by a plan that is not the one remembered for it."""

    def charge(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Price a call that has run, and add it to the tally."""

    def charge_in(
        self, place: Located, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> None:
        """Price a call that has run, and add it to the tally of a place."""

    def charge_finished(self, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Charge an operator that has run without the mode."""

    def see(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the memory of a call that is charged as steps."""

    def charge_steps(self, steps: OperatorSteps) -> None:
        """Charge what an operator stands for."""

    def take_back(self, operator: str, out: Tensor) -> None:
        """Uncharge one call of an elementwise operator that was charged right before."""

    def note(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of what an operator wrote that was charged otherwise."""

    def asks(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a composite operator is charged whole."""

    def composite_plan(self, func: OpOverload) -> Plan | None:
        """Return the plan of a composite operator that is charged whole."""

    def kernel_plan(self, kernel: Any) -> Plan:
        """Return the plan of a Triton kernel."""

    def reentered(self) -> AbstractContextManager[None]:
        """See what a kernel calls inside."""

    def run_under(self, run: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and see what it calls."""

    def absent(self) -> AbstractContextManager[None]:
        """See nothing of what this thread runs."""

    def look_away(self) -> Callable[[], None]:
        """Charge nothing until what is returned is called."""

    def noting(self) -> AbstractContextManager[Noting]:
        """See what a kernel calls inside, and note whether anything is priced."""

    def deferring(self) -> tuple[Mode, Callable[[], None]]:
        """Return the same mode once more, to be entered; it charges what it sees when what is returned is called."""

    def looking_into(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, lenient: bool = False) -> Watching:
        """Look for what makes the results of a call while the block runs."""


class Noting(Protocol):
    """Notes whether anything is priced."""

    @property
    def priced(self) -> bool:
        """True if an operator was counted."""


class Handler(Protocol):
    """Runs calls of an operator where more is to be done than to run it and to charge it."""

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any:
        """Run one call, and charge it to the mode."""

    def plan_of_finished(self, plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Plan | None:
        """Return the plan that charges a call which has run already; None: it is not charged."""


class _FunctionHandler:
    """Runs calls by a function; one that has run already is charged by the operator's plan."""

    def __init__(self, function: Callable[[Mode, Plan, Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._function(mode, plan, func, args, kwargs)

    @staticmethod
    def plan_of_finished(plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        return plan.chosen(out, args, kwargs)


def handler(function: Callable[[Mode, Plan, Any, tuple[Any, ...], dict[str, Any]], Any]) -> Handler:
    """Make a handler of a function that runs one call."""
    return _FunctionHandler(function)


def _not_set(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("the plan is not one that the interceptor decided on")


class Occasion(NamedTuple):
    """Features that the calls of a collective share which are one row.

    Attributes:
        kind: ``"all-reduce"``, ...
        group: The name that reports have for the group.
        ranks: Their number; 0 where the operator does not say.
        issued: The path of the module that ran it, where another one is charged; else None.
    """

    kind: str
    group: str
    ranks: int
    issued: str | None

    def moving(self, size: int) -> Collective:
        """Return a record's part about so many bytes."""
        return Collective(*self, size)


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """The decision about one operator. Plans are compared by identity.

    Attributes:
        operator: The overload's name, ``"aten.mm.default"``.
        family: What records of it bear.
        price: The formula; None: nothing is known to be computed.
        handle: Runs the call, where a plain one and then the price are not all there is to do.
        text: The formula's mathematics.
        when: A condition: calls that meet it are priced by the plan ``special``, others by ``otherwise``.
        special: See ``when``.
        otherwise: See ``when``.
        func: The operator that it was made for, so that its ``id`` stays its own.
        run: What runs it.
        traffic: Says what a call reads and writes; None: nothing.
        from_user: Whether the formula is not opcount's own, so that its failure is an error.
        joint: Says of most calls what ``price`` and ``traffic`` of the plan ``usual`` do; an error: they are asked.
        usual: The last one that ``otherwise`` leads to; None: this one.
        occasion: In which group a collective runs, and for whom; None of any other operator.
    """

    operator: str
    family: str
    price: Pricing | None = None
    handle: Handler | None = None
    text: str = ""
    when: Callable[..., bool] | None = None
    special: Plan | None = None
    otherwise: Plan | None = None
    func: Any = None
    run: Callable[..., Any] = _not_set
    traffic: Traffic | None = of_any_call
    from_user: bool = False
    joint: Joint | None = None
    usual: Plan | None = None
    occasion: Occasion | None = None

    def chosen(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Plan:
        """Return the plan whose condition a call meets."""
        plan: Any = self
        while plan.when is not None:
            plan = plan.special if plan.when(out, *args, **kwargs or {}) else plan.otherwise
        return plan  # type: ignore[no-any-return]

    def priced(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[Plan, Cost | None]:
        """Return the plan whose condition a call meets, and what its formula says; None if it has none.

        A call for which a formula of ours fails is named as uncounted: the user's program must not fail for that.
        """
        plan: Any = self
        try:
            while plan.when is not None:
                meets = plan.when(out, *args, **kwargs) if kwargs else plan.when(out, *args)
                plan = plan.special if meets else plan.otherwise
            price = plan.price
            if price is None:
                return plan, None
            return plan, price(out, *args, **kwargs) if kwargs else price(out, *args)
        except Exception:
            if plan.from_user:
                raise
            return unpriced(plan.operator, plan.traffic), None

    def of_finished(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan that charges a call which has run already; None for a question about metadata."""
        if self.handle is None:
            return self.chosen(out, args, kwargs)
        return self.handle.plan_of_finished(self, out, args, kwargs)


@cache
def unpriced(operator: str, traffic: Traffic | None = of_any_call) -> Plan:
    """Return the plan that names an operator as uncounted, whatever else is known of it."""
    return Plan(operator, UNCOUNTED, traffic=traffic)


class Unseen:
    """Runs an operator and charges nothing."""

    def __call__(self, _: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call."""
        del func
        return plan.run(*args, **kwargs)

    @staticmethod
    def plan_of_finished(_plan: Plan, _out: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        """Charge nothing."""
