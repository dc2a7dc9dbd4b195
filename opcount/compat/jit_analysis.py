"""The analyses of fvcore: one run of a model, asked by module and operator."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from opcount.compat.answers import ANCESTORS, TRACER_WARNINGS, Answers, one_of, pairs_of
from opcount.compat.kinds import COSTS_NOTHING, FUNCTION, TRACED_IN_PARTS, kind_of, kind_of_whole, values_of
from opcount.compat.structure import is_meant_to_be_called, walk
from opcount.compat.subject import left_alone, reported, runs_dry, skeleton_of, without_computing
from opcount.compat.tally import Entry, Tally
from opcount.interceptor import attention_in_the_open, whole_calls

if TYPE_CHECKING:
    from collections import Counter

    from torch import nn
    from typing_extensions import Self

    from opcount.compat.handles import Handle
    from opcount.interceptor import Call

_log = logging.getLogger("fvcore.nn.jit_analysis")
"""By this name programs silence what fvcore logs."""

_NEEDS_AUTOGRAD = re.compile("require.*grad|grad_fn")
_NUMBERS = (int, float, np.float64, np.int64)


class JitModelAnalysis(Answers):
    """Runs a model once, when first asked, and answers by module and operator.

    Operators go by the names that a trace of ``torch.jit.trace`` gives them, ``aten::linear``, though nothing is
    traced: the model runs. So work is counted whose result nobody uses, or that a trace cannot follow. Autograd records
    nothing meanwhile; a model that needs it in its forward runs a second time, with it.

    Args:
        model: Run as it is: in train or eval as the caller left it. Its buffers, mode and random numbers are put back.
        inputs: A tuple of arguments, or the only one.
        dry_run: True: compute nothing, on a copy of the model without its data. False: compute. None: compute nothing
            where the model's parameters are on the meta device.

    Raises:
        DryRunError: When first asked: a dry run is not possible.
    """

    _prices: frozenset[str] = frozenset()
    """The operators that have a price before handles are set; the others count for the products inside."""

    def __init__(self, model: nn.Module, inputs: Any, *, dry_run: bool | None = None) -> None:
        super().__init__(model, inputs, dry_run=dry_run)
        self._op_handles: dict[str, Handle] = {}
        self._ignored_ops: set[str] = set()
        self._has_prices = bool(self._prices)
        self._stats: Tally | None = None
        self._ancestor_mode = "owner"
        self._enable_warn_unsupported_ops = True
        self._enable_warn_uncalled_mods = True
        self._warn_trace = "no_tracer_warning"

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the numbers of every module, children included, by operator."""
        return self._analyze().view(self._ancestor_mode).counts

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """Return how often operators ran that have no handle and no price, as ``aten::name``.

        Elementwise operators are among them, and all that this count leaves out; not those that only move or make
        data, nor those that were ignored. Arithmetic on sizes is none: it does not reach tensors.

        Raises:
            RuntimeError: Nothing was asked before that makes the model run.
        """
        if self._stats is None:
            raise RuntimeError(
                f"{type(self).__name__}: expected a count before unsupported_ops(), got none. Call total() first."
            )
        return self._stats.view(self._ancestor_mode).unsupported[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """Return the modules that no operator ran under: unused, or used by other means than a call."""
        return self._analyze().view(self._ancestor_mode).uncalled

    def set_op_handle(self, *args: Any, **kwargs: Handle | None) -> Self:
        """Set handles for operators: pairs of name and handle, or keywords; None ignores the operator.

        A handle ``(inputs, outputs) -> number or Counter`` gets all arguments and results of the operator, as objects
        that answer what a traced graph's values do: see `opcount.compat.handles.Value`.

        Where fvcore has a handle of its own for an operator, it goes on to count what None was to ignore, against its
        documentation; here None ignores it.

        Raises:
            TypeError: A name has no handle.
        """
        for name, handle in pairs_of(args, kwargs).items():
            if handle is None:
                self._ignored_ops.add(name)
                self._op_handles.pop(name, None)
            else:
                self._ignored_ops.discard(name)
                self._op_handles[name] = handle
        self._stats = None
        return self

    def clear_op_handles(self) -> Self:
        """Forget all handles, those that an analysis begins with too, and which operators to ignore."""
        self._op_handles = {}
        self._ignored_ops = set()
        self._has_prices = False
        self._stats = None
        return self

    def copy(self, new_model: nn.Module | None = None, new_inputs: Any = None) -> Self:
        """Return an analysis with the same settings, for another model or other inputs.

        Ignored operators and the mode of ancestors are settings, too: fvcore forgets them, against its documentation.
        """
        model = self._model if new_model is None else new_model
        other = type(self)(model, self._inputs if new_inputs is None else new_inputs)
        settings = {
            name: value for name, value in vars(self).items() if name not in {"_model", "_inputs", "_names", "_stats"}
        }
        vars(other).update(settings)
        other._op_handles, other._ignored_ops = dict(self._op_handles), set(self._ignored_ops)  # noqa: SLF001
        return other

    def ancestor_mode(self, mode: str) -> Self:
        """Choose which modules an operator counts for.

        Args:
            mode: ``"owner"``: the module that ran it and the dotted parents of that module's name. ``"caller"``: every
                module that was running.
        """
        self._ancestor_mode = one_of("ancestor_mode", mode, ANCESTORS)
        return self

    def unsupported_ops_warnings(self, enabled: bool) -> Self:  # noqa: FBT001  (the reference's signature)
        """Choose whether operators that have no handle and no price are logged."""
        self._enable_warn_unsupported_ops = enabled
        return self

    def uncalled_modules_warnings(self, enabled: bool) -> Self:  # noqa: FBT001  (the reference's signature)
        """Choose whether modules that were never called are logged."""
        self._enable_warn_uncalled_mods = enabled
        return self

    def tracer_warnings(self, mode: str) -> Self:
        """Choose which warnings of the model's run are shown.

        Args:
            mode: ``"none"`` hides all. ``"all"`` and ``"no_tracer_warning"`` show all: no tracer runs.
        """
        self._warn_trace = one_of("tracer_warnings", mode, TRACER_WARNINGS)
        return self

    @property
    def reported(self) -> nn.Module:
        """The model; after a dry run the copy that ran, if its forward made modules or parameters."""
        return self._analyze().model

    def _analyze(self) -> Tally:
        if self._stats is None:
            self._stats = self._run()
            self._log_unsupported(self._stats)
            self._log_uncalled(self._stats)
        return self._stats

    def _run(self) -> Tally:
        """Run the model; once more where it differentiates in its forward, which takes operators apart.

        Raises:
            RuntimeError: That of the model; or it differentiates, and has handles that might never be called.
        """
        try:
            return self._run_once()
        except RuntimeError as error:
            if not _NEEDS_AUTOGRAD.search(str(error)):
                raise
            if self._op_handles:
                raise RuntimeError(
                    f"{type(self).__name__}: expected a forward that differentiates nothing, for the handles of "
                    f"{', '.join(self._op_handles)}, got {error!r}. Count it without handles, or with OpCounter."
                ) from error
        return self._run_once(with_autograd=True)

    def _run_once(self, *, with_autograd: bool = False) -> Tally:
        args = self._inputs if isinstance(self._inputs, tuple) else (self._inputs,)
        functions = {k.removeprefix(FUNCTION) for k in {*self._op_handles, *self._ignored_ops} if FUNCTION in k}
        dry = runs_dry(self._model, self._dry_run)
        ran = skeleton_of(self._model) if dry else self._model
        tally = Tally(ran)

        def add(call: Call) -> None:
            self._add(tally.at(call.stack), kind_of_whole(call) if with_autograd else kind_of(call.operator), call)

        with ExitStack() as undo:
            undo.enter_context(left_alone(self._model, *args, dry=dry))
            undo.enter_context(attention_in_the_open())
            if self._warn_trace == "none":
                undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            if dry:
                undo.enter_context(without_computing(ran))
            undo.enter_context(whole_calls(ran, add, TRACED_IN_PARTS, functions, with_autograd=with_autograd))
            ran(*args)
            tally.model = reported(self._model, ran)
        return tally

    def _add(self, entry: Entry, kind: str, call: Call) -> None:
        handle = self._op_handles.get(kind)
        if handle is not None:
            for word, number in _read(kind, handle(*values_of(call))).items():
                entry.counts[word] += number
        elif kind not in self._ignored_ops:
            number = self._price(kind, call) if self._has_prices else 0
            if number:
                entry.counts[_word(kind)] += number
            if not (number or self._is_explained(kind)) or not call.priced:
                entry.unsupported[kind] += 1

    def _is_explained(self, kind: str) -> bool:
        return kind in COSTS_NOTHING or (self._has_prices and kind in self._prices)

    def _price(self, kind: str, call: Call) -> int:
        raise NotImplementedError

    def _log_unsupported(self, tally: Tally) -> None:
        if self._enable_warn_unsupported_ops:
            for kind, calls in tally.view("owner").unsupported[""].items():
                _log.warning("Unsupported operator %s encountered %d time(s)", kind, calls)

    def _log_uncalled(self, tally: Tally) -> None:
        modules = dict(walk(tally.model))
        names = sorted(n for n in tally.view(self._ancestor_mode).uncalled if is_meant_to_be_called(modules[n]))
        if self._enable_warn_uncalled_mods and names:
            _log.warning("These modules were never called; their parents include what ran: %s", ", ".join(names))


def _word(kind: str) -> str:
    """Return what numbers go under: fvcore calls convolutions ``conv``, and all others as a trace does."""
    return "conv" if kind.startswith("aten::_convolution") else kind.rpartition("::")[2]


def _read(kind: str, priced: Any) -> Mapping[str, Any]:
    """Return what a handle said by word.

    Raises:
        ValueError: It counts in numbers that may overflow, or that are none.
    """
    counts: Any = {kind.rpartition("::")[2]: priced} if isinstance(priced, Number) else priced
    if not isinstance(counts, Mapping) or not all(isinstance(number, _NUMBERS) for number in counts.values()):
        raise ValueError(
            f"set_op_handle: expected the handle of {kind!r} to return a number or a Counter of numbers, "
            f"got {priced!r} of type {type(priced).__name__}. Return an int, or a Counter of ints."
        )
    return {word: number for word, number in counts.items() if number > 0}
