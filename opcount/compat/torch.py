"""A drop-in for ``torch.utils.flop_counter``: the same names, keys and texts, from opcount's count.

FLOPs are two for each multiply-accumulate of a contraction. Numbers differ from torch's where those are wrong:

* These count 0 there and here what they do: ``mv``, ``dot``, ``addr``, ``addbmm`` and other products without a
  formula, in-place products such as ``addmm_``, attention on a CPU, fast paths of transformers, recurrent layers,
  quantized, grouped and sparse products, and what runs inside custom operators.
* Complex products take four real ones. A sparse product takes as many as there are values.
* The gradient of a grouped or depthwise convolution's weight is divided by the groups, as the forward is.
* ``cond`` counts the branch that is taken, and runs no other; torch runs both and counts the larger. Under fake
  tensors, where nobody knows which is taken, a warning names it as uncounted.
* What raises there is counted here: nested tensors in linear layers and attention, ``flex_attention``, ``scan``,
  ``autograd.grad`` to a leaf, ``jacrev``.
* A backward operator belongs to the module whose forward made it, and to its callers. torch keeps a module in whose
  inputs no gradient flows open to the end of the backward, and loses track in checkpoints and of shared modules.
* Of packed sequences whose lengths are in fake or meta tensors, torch takes each to be of the greatest length. Here
  there are no more rows than the tensor has, each against the greatest length.
* A formula for an operator prices the in-place variant, too.
* The formula of a Triton kernel gets the kernel's arguments, not those of the operator that launches it, and its
  FLOPs go under the kernel's name.

What nothing explains is named in a warning. A counter that nothing was counted by has an empty ``"Global"``.
The indentation of tables is that of tabulate up to 0.9, which torch asks for; tabulate 0.10 drops it.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from opcount.compat.flop_formulas import CONVENTION, formulas_of
from opcount.compat.flop_registry import flop_registry, register_flop_formula, shape_wrapper
from opcount.cost import Cost
from opcount.coverage import FREE, UNCOUNTED
from opcount.errors import CounterStateError, UncountedOperatorWarning
from opcount.freeze import profile_of
from opcount.interceptor import Planner, ThreadInterceptors, observe
from opcount.overrides import registry_with
from opcount.reporter.flop_table import GLOBAL, flop_table
from opcount.scope import ClassNames, Scopes
from opcount.undo import Undo, noted, when_dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from opcount.interceptor import Plan

__all__ = ["FlopCounterMode", "flop_registry", "register_flop_formula", "shape_wrapper"]


class FlopCounterMode:
    """Counts the FLOPs of what runs in its block, by module and operator. Entering it again begins anew.

    Args:
        mods: Not needed any more, and a warning.
        depth: Of the modules in the table; None: of any depth.
        display: Print the table on leaving the block.
        custom_mapping: Formulas for this counter alone, by packet, ``torch.ops.mylib.f``. They return FLOPs, and get
            the shapes of the operator's arguments and ``out_shape``; with an attribute ``_get_raw`` that is true, the
            arguments themselves and ``out_val``.

    Raises:
        FormulaError: A key of ``custom_mapping`` is no operator; inside the block, a formula failed.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.ReLU())
        >>> with FlopCounterMode(display=False) as counter:
        ...     _ = net(torch.ones(1, 10))
        >>> counter.get_total_flops(), counter.get_flop_counts()["Sequential.0"]
        (200, {<OpOverloadPacket(op='aten.addmm')>: 200})
    """

    def __init__(
        self,
        mods: torch.nn.Module | list[torch.nn.Module] | None = None,
        depth: int | None = 2,
        display: bool = True,  # noqa: FBT001, FBT002  (the reference's signature)
        custom_mapping: Mapping[Any, Callable[..., Any]] | None = None,
    ) -> None:
        if mods is not None:
            warnings.warn(
                "FlopCounterMode: mods is not needed, modules are known when they run. Leave it out.", stacklevel=2
            )
        self.depth = depth
        self.display = display
        custom = {
            target: function if getattr(function, "_get_raw", False) else shape_wrapper(function)
            for target, function in (custom_mapping or {}).items()
        }
        self.flop_registry = {**flop_registry, **custom}
        self._custom = custom
        self._names = ClassNames()
        self._scopes: Scopes | None = None
        self._undo = Undo()

    def __enter__(self) -> Self:
        if self._undo:
            raise CounterStateError(
                "FlopCounterMode: this counter is counting already. Use a second FlopCounterMode for a nested region."
            )
        planner = Planner(registry_with(formulas_of(self.flop_registry, self._custom)), asks_composites=True)
        interceptors = ThreadInterceptors(planner)
        priced = planner.priced_modules()
        self._scopes = Scopes(
            None, interceptors.adopt, priced, interceptors.charge_module, interceptors.charge_script, self._names
        )
        undo = self._undo = Undo()
        self._guard = when_dropped(self, undo.run)
        try:
            observe(self._scopes, interceptors.enlist, undo)
        except BaseException:
            undo.run()
            raise
        return self

    @noted
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._undo:
            raise CounterStateError("FlopCounterMode: this counter is not counting. Enter it with `with` first.")
        self._undo.run(error)
        self._guard = None
        if self.display:
            print(self.get_table())  # noqa: T201  (what `display` asks for)
        if error is None:
            self._warn_of_uncounted()

    @property
    def flop_counts(self) -> defaultdict[str, defaultdict[Any, int]]:
        """FLOPs so far by module, ``"Global"`` for all of them, and operator; a copy, but for `clear`."""
        counts = _Counts(self._scopes)
        counts[GLOBAL] = defaultdict(int)
        for names, operator, flops in self._counted():
            for name in names:
                counts[name][operator] += flops
        return counts

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """Return FLOPs so far by module, ``"Global"`` for all of them, and operator."""
        return {name: dict(operators) for name, operators in self.flop_counts.items()}

    def get_total_flops(self) -> int:
        """Return the FLOPs so far."""
        return sum(flops for _, _, flops in self._counted())

    def get_table(self, depth: int | None = None) -> str:
        """Return modules and operators with FLOPs and shares as text, to ``depth`` or else the counter's own."""
        return flop_table(self.flop_counts, self.depth if depth is None else depth)

    def _counted(self) -> Iterator[tuple[list[str], Any, int]]:
        """Yield the modules, the operator and the FLOPs of every sum, in the order in which they were begun."""
        frames = [] if self._scopes is None else self._scopes.threads.frames()
        rows = [(row, plan, frame) for frame in frames for (plan, *_), row in list(frame.rows.items())]
        for row, plan, frame in sorted(rows, key=lambda entry: entry[0].order):
            operator = _packet(plan)
            flops = CONVENTION.flops(plan.operator, plan.family, Cost(row.macs, row.arith))
            if flops or (operator in self.flop_registry and plan.family not in {FREE, UNCOUNTED}):
                yield [GLOBAL, *dict.fromkeys(frame.stack()[1:])], operator, flops

    def _warn_of_uncounted(self) -> None:
        if self._scopes is None:
            return
        coverage = profile_of(self._scopes, CONVENTION, {}).coverage
        if coverage.uncounted:
            warnings.warn(
                f"{coverage.verdict()}. Register one with register_flop_formula, or pass it as custom_mapping.",
                UncountedOperatorWarning,
                stacklevel=3,
            )


class _Counts(defaultdict[str, defaultdict[Any, int]]):
    """Counts of a counter; `clear` resets the counter, too."""

    def __init__(self, scopes: Scopes | None) -> None:
        super().__init__(lambda: defaultdict(int))
        self._scopes = scopes

    def clear(self) -> None:
        super().clear()
        if self._scopes is not None:
            self._scopes.threads.clear()


def _packet(plan: Plan) -> Any:
    """Return the packet of a plan's operator; the name of what is none, such as a module that is priced whole."""
    namespace, _, name = plan.operator.partition(".")
    return getattr(getattr(torch.ops, namespace, None), name.partition(".")[0], plan.operator)
