"""One call of an ``autograd.Function``: priced whole where there is a formula for it, else watched.

Its backward is priced at the time of its forward, while the arguments are alive: nothing is kept but the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.autograd import Function

from opcount._torch.autograd import backward_class, forward_class
from opcount._torch.names import FUNCTORCH_FUNCTIONS, LIBRARY_FUNCTIONS
from opcount.cost import DETAILS, Cost
from opcount.coverage import UNCOUNTED
from opcount.interceptor.calls import tensors
from opcount.interceptor.plan import Plan
from opcount.interceptor.stack import interceptors, without
from opcount.interceptor.symbolic import unguarded
from opcount.interceptor.watching import Watching, surroundings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.interceptor.plan import Mode
    from opcount.interceptor.planner import Planner


def name_of(function: type) -> str:
    """Return an operator's name for a function: that of the program's own where functorch has made another of it."""
    name = function.__name__
    if function.__module__ == FUNCTORCH_FUNCTIONS:
        name = name.removeprefix("Vmapped").removesuffix("Generated")
    return f"autograd.{name}"


class _Way(NamedTuple):
    """Price of the calls of a function, and the plan that charges it.

    Attributes:
        pricing: The plan whose formula is asked.
        charging: The plan that calls are charged by, at a cost which is known already.
        alike: The same for backwards that cost as much for each gradient.
    """

    pricing: Plan
    charging: Plan
    alike: Plan

    def price(self, out: Any, args: tuple[Any, ...]) -> tuple[Plan, Cost] | None:
        """Return the plan by which to charge a call, and its cost; None if the formula does not know such a call."""
        price = self.pricing.price
        if price is None:
            return self.charging, Cost()
        try:
            with unguarded((out, *args)):
                cost = price(out, *args)
        except Exception:
            if self.pricing.from_user:
                raise
            return None
        # A formula of ours may have been asked for a function that only bears a library's name.
        return (self.charging, cost) if self.pricing.from_user or _counts(cost) else None


def _counts(cost: Cost) -> bool:
    """Return whether a cost is one: of whole numbers from 0 on."""
    return all(isinstance(n, torch.SymInt) or (type(n) is int and n >= 0) for n in cost)


def _way(pricing: Plan) -> _Way:
    price = _known_cost if pricing.price else None
    names = (pricing.operator, f"{pricing.operator}Backward")
    return _Way(pricing, *(Plan(name, pricing.family, price, text=pricing.text) for name in names))


def _known_cost(_out: object, /, *_args: object, cost: Cost) -> Cost:
    return cost


class _Ways(NamedTuple):
    """Prices of the calls of a function.

    Attributes:
        forward: That of its forward; None: what runs inside is counted.
        backward: That of its backward; None: it has no formula of its own.
    """

    forward: _Way | None
    backward: _Way | None


class _Bill(NamedTuple):
    """Charge for the backward of one call.

    Attributes:
        plan: By which.
        cost: How much.
        each: Whether that is for each gradient.
    """

    plan: Plan
    cost: Cost
    each: bool

    def total(self, gradients: int) -> Cost:
        """Return the cost of a backward that returns so many gradients."""
        if not self.each:
            return self.cost
        each = self.cost * gradients
        return Cost(each.macs, each.arith, **{name: getattr(each, name) for name in DETAILS})


class FunctionCalls:
    """Calls of functions in one count.

    Args:
        planner: Finds their formulas.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._ways: dict[type, _Ways | None] = {}
        self._latest: dict[str, _Bill] = {}
        self._bills: WeakKeyDictionary[Any, _Bill] | None = None
        self._opaque: dict[str, Plan] = {}

    def run_forward(self, mode: Mode, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run a function's forward."""
        if mode.is_paused:
            return run()
        ways = self._ways_of(function)
        if ways is None:
            return self._watch_forward(mode, function, args, run) if issubclass(function, Function) else run()
        name = name_of(function)
        if issubclass(function, Function):
            if ways.forward is not None:
                out, bill = self._run_priced(mode, ways.forward, ways.backward, function, args, run)
            else:
                out = self._watch_forward(mode, function, args, run)
                bill = _own_bill(ways.backward, out, args)
            self._latest.pop(name, None)
            if bill is not None:
                self._latest[name] = bill
        else:  # functorch made it of the program's own, which it applies
            out = run()
        node = _node_of(function, out)
        if node is not None and name in self._latest:
            if self._bills is None:
                self._bills = WeakKeyDictionary()
            self._bills[node] = self._latest[name]
        return out

    def _run_priced(
        self,
        mode: Mode,
        forward: _Way,
        backward: _Way | None,
        function: Any,
        args: tuple[Any, ...],
        run: Callable[[], Any],
    ) -> tuple[Any, _Bill | None]:
        """Run a forward, and charge it by its formula; return what it returned, and what its backward costs.

        A formula of ours may refuse a call once it has run. So what ran inside is kept until then, to be charged as if
        there were no formula; a backward without a price is counted by what it runs, too.
        """
        if forward.pricing.price is None or forward.pricing.from_user:
            with mode.absent():
                out = run()
            pay = None
        else:
            inside, pay = mode.deferring()
            known = set() if mode.origins is None else mode.origins.known()
            with mode.absent(), inside.reentered():
                out = self._watch_forward(inside, function, args, run)
        with without(interceptors()):  # what a formula computes to know the cost is not the program's
            priced = forward.price(out, args)
        own = _own_bill(backward, out, args)
        if pay is not None and priced is None:
            pay()
        elif pay is not None and mode.origins is not None:
            mode.origins.forget_all_but(known)
        if priced is not None:
            plan, cost = priced
            mode.charge(plan, out, args, {"cost": cost})
        if backward is not None and (priced is not None or backward.pricing.from_user):
            return out, own
        return out, None if priced is None else _Bill(forward.alike, priced[1], each=True)

    def run_backward(self, mode: Mode, node: Any, grads: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run a function's backward."""
        if mode.is_paused:
            return run()
        bill = None if self._bills is None else self._bills.get(node)
        if bill is None:
            return self._watch_derivative(mode, node, grads, run)
        with mode.absent():
            out = run()
        mode.charge(bill.plan, out, grads, {"cost": bill.total(sum(1 for _ in tensors((out,))))})
        return out

    def _watch_forward(self, mode: Mode, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run a forward, and name the function if it returns what no operator wrote that was seen."""
        with Watching(mode.origins, args, lenient=_runs_programs(function)) as watching:
            out = run()
            unexplained = watching.leaves_unexplained(out)
            if unexplained:
                watching.know(surroundings_of(function))
                unexplained = watching.leaves_unexplained(out)
        if unexplained:
            mode.charge(self._opaque_plan(name_of(function)), out, args, {})
        return out

    def run_vmap(self, mode: Mode, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run a function's rule for ``vmap``; where the function has a formula, that prices what the rule applies."""
        ways = self._ways_of(function)
        unwatched = mode.is_paused or (ways is not None and ways.forward is not None)
        return run() if unwatched else self._watch_forward(mode, function, args, run)

    def run_jvp(self, mode: Mode, node: Any, tangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Run a function's forward derivative, which no formula prices."""
        return run() if mode.is_paused else self._watch_derivative(mode, node, tangents, run, "Jvp")

    def _watch_derivative(
        self, mode: Mode, node: Any, given: tuple[Any, ...], run: Callable[[], Any], suffix: str = "Backward"
    ) -> Any:
        """Run a backward, and name it likewise; a gradient may be zero, or a tensor that the forward has kept."""
        function = forward_class(node)
        name = name_of(function)
        lenient = _runs_programs(function) and function.__module__ != LIBRARY_FUNCTIONS
        with Watching(mode.origins, given, lenient=lenient) as watching:
            out = run()
            watching.know(*vars(node).values())
            unexplained = watching.leaves_unexplained(out, constants=name not in self._opaque, strangers=True)
        if unexplained:
            mode.charge(self._opaque_plan(f"{name}{suffix}"), out, given, {})
        return out

    def _opaque_plan(self, name: str) -> Plan:
        return self._opaque.setdefault(name, Plan(name, UNCOUNTED))

    def _ways_of(self, function: Any) -> _Ways | None:
        if function not in self._ways:
            name = name_of(function)
            forward = self._planner.function_plan(function, name)
            backward = self._planner.function_plan(backward_class(function), f"{name}Backward")
            if forward is None and backward is not None and not (backward.from_user or backward.price is None):
                backward = None  # a formula of ours for a backward goes with that for its forward
            ways = _Ways(*(None if plan is None else _way(plan) for plan in (forward, backward)))
            self._ways[function] = ways if any(ways) else None
        return self._ways[function]


def _own_bill(backward: _Way | None, out: Any, args: tuple[Any, ...]) -> _Bill | None:
    """Return what a backward costs by a formula of its own; None if it has none, or none for such a call."""
    if backward is None:
        return None
    with without(interceptors()):  # what a formula computes to know the cost is not the program's
        owed = backward.price(out, args)
    return None if owed is None else _Bill(*owed, each=False)


def _runs_programs(function: type) -> bool:
    """Return whether a function is PyTorch's own: it calls no kernel past the dispatcher, but may call a program."""
    return function.__module__.startswith("torch.") and function.__module__ != FUNCTORCH_FUNCTIONS


def _node_of(function: Any, out: Any) -> Any:
    """Return the node that a call left in the graph; None if it left none."""
    for tensor in tensors((out,)):
        node = tensor.grad_fn
        if isinstance(node, backward_class(function)):
            return node
    return None
