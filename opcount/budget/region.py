"""A budget for a region of code: a decorator and a context manager."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from opcount.budget.budget import Budget, enforce
from opcount.budget.scaling import scaling
from opcount.budget.watch import current, quiet_counter
from opcount.errors import BudgetError
from opcount.undo import noted, when_dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from torch import nn
    from typing_extensions import TypedDict, Unpack

    from opcount.convention import Convention
    from opcount.counter import OpCounter

    F = TypeVar("F", bound=Callable[..., Any])
    Bound = str | int | None

    class Bounds(TypedDict, total=False):
        """Bounds by the name of the argument: a quantity with a unit, or an integer where the name has a metric."""

        min: Bound
        max: Bound
        exact: Bound
        min_macs: Bound
        max_macs: Bound
        exact_macs: Bound
        min_flops: Bound
        max_flops: Bound
        exact_flops: Bound
        min_activations: Bound
        max_activations: Bound
        exact_activations: Bound
        min_params: Bound
        max_params: Bound
        exact_params: Bound
        memory: Bound
        min_memory: Bound
        max_memory: Bound
        exact_memory: Bound
        comm: Bound
        min_buffer_bytes: Bound
        max_buffer_bytes: Bound
        exact_buffer_bytes: Bound
        min_bus_bytes: Bound
        max_bus_bytes: Bound
        exact_bus_bytes: Bound

    class Options(Bounds, total=False):
        """Keyword arguments of `Budget.of`."""

        modules: Mapping[str, str | int | Mapping[str, Bound]] | None
        phase: str | None
        metric: str | None
        rtol: float
        convention: str | Convention | None
        allow_uncounted: bool | Sequence[str]


class flop_budget:  # noqa: N801  (used as a decorator and a context manager, never as a type)
    """Hold a function, a test or a block to a budget.

    Every call of the function, and every run of the block, is counted on its own. A block gives the counter. Several
    asyncio tasks that run at once are counted together: hold the function that starts them to a budget instead.

    Args:
        limits: Upper bounds: ``"4.2 GMAC"``, ``"8.4 GFLOP"``, ``"11 MACT"`` (activations), ``"25.6 Mparam"``.
        model: Gives modules their paths; its parameters are counted. None: paths begin with a class's name, which
            the patterns of ``modules`` may leave out.
        name: What a failure calls the region; None: the function's name.
        options: ``min``, ``max``, ``exact``, ``max_macs``, ..., ``modules``, ``phase``, ``metric``, ``rtol``,
            ``convention``, ``allow_uncounted``: see `Budget.of`.

    Raises:
        BudgetError: The budget cannot be read, or a pattern of ``modules`` matches no module.
        BudgetExceededError: On leaving; an `AssertionError`.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(10, 10)
        >>> with flop_budget("100 MAC", model=model) as c:
        ...     _ = model(torch.ones(1, 10))
        >>> c.macs
        100
        >>> @flop_budget("400 MAC")
        ... def forward():
        ...     return model(torch.ones(5, 10))
        >>> forward()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        opcount.errors.BudgetExceededError: ...forward: limited to 400 MAC, counted 500 MAC (+25.0 %). Biggest \
spenders: Linear: 500 MAC (100.0 %).
    """

    scaling = staticmethod(scaling)

    def __init__(
        self, *limits: str | int, model: nn.Module | None = None, name: str | None = None, **options: Unpack[Options]
    ) -> None:
        for given in limits:
            if callable(given):
                raise BudgetError(
                    f"flop_budget: expected a limit, got {given!r} of type {type(given).__name__}. "
                    f"Write it in parentheses: @flop_budget('4.2 GMAC')."
                )
        self.budget = Budget.of(*limits, **options)
        self._model = model
        self._name = name or ""
        self._function = ""
        self._running: list[tuple[OpCounter, object]] = []

    def __call__(self, function: F) -> F:
        """Return the function, each call of it held to the budget."""
        _check_function(function)

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def counted_async(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                with self._again(function):
                    return await function(*args, **kwargs)

            return counted_async  # type: ignore[return-value]

        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with self._again(function):
                return function(*args, **kwargs)

        return counted  # type: ignore[return-value]

    def __enter__(self) -> OpCounter:
        counter = quiet_counter(self._model, memory=self.budget.bounds_memory)
        guard = when_dropped(self, counter._abandon)  # noqa: SLF001  (the package's own way out)
        counting = [entry for entry in self._running if entry[0]._undo]  # noqa: SLF001
        self._running = [*counting, (counter, guard)]
        return counter.__enter__()

    @noted
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        counter, _ = self._running[-1]
        counter.__exit__(kind, error, trace)
        self._running = self._running[:-1]
        if error is None:
            watcher, profile = current(), counter.profile
            name = self._name or (self._function if self._function != watcher.function else "")
            who = ", ".join(filter(None, (watcher.name, name))) or "flop_budget"
            watcher.note(name, profile, (str(self.budget),))
            enforce(self.budget, profile, watcher, who=who, name=name)

    def _again(self, function: Callable[..., Any]) -> flop_budget:
        """Return the same budget for one call, so that calls may overlap."""
        twin = object.__new__(type(self))
        twin.budget, twin._model, twin._name, twin._running = self.budget, self._model, self._name, []
        twin._function = getattr(function, "__name__", "flop_budget")
        return twin


def _check_function(function: object) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BudgetError(
            f"flop_budget: expected a function that returns, got the generator function {name}. "
            f"A counter would count its consumer too: put `with flop_budget(...):` around the loop that consumes it."
        )
    if inspect.isclass(function) or not callable(function):
        raise BudgetError(
            f"flop_budget: expected a function, got {name} of type {type(function).__name__}. "
            f"Decorate the methods that compute, or write `with flop_budget(...):`."
        )
