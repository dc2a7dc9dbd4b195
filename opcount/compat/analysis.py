"""The analyzer behind the drop-ins for mmengine and fvcore: one run of a model, asked by module and operator."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from numbers import Number
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import nn

from opcount.compat.subject import is_meant_to_be_called, left_alone, reported, runs_dry, skeleton_of, without_computing
from opcount.compat.tally import Entry, Layout, Tally
from opcount.compat.trace_names import (
    COSTS_NOTHING,
    FUNCTION,
    TRACED_IN_PARTS,
    trace_name_of,
    trace_name_of_whole,
    values_of,
)
from opcount.compat.warning_filter import hidden_warnings
from opcount.interceptor import fused_attention_disabled, whole_calls
from opcount.model_inputs import Arguments
from opcount.structure import canonical_names
from opcount.undo import Undo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from typing_extensions import Self

    from opcount.compat.handles import Handle
    from opcount.dryrun import Disposable
    from opcount.interceptor import Call
    from opcount.scope import Scopes

_NEEDS_AUTOGRAD = re.compile("require.*grad|grad_fn")
_ANCESTORS = ("owner", "caller")
_TRACER_WARNINGS = ("all", "no_tracer_warning", "none")
_NUMBERS = (int, float, np.float64, np.int64)


class JitModelAnalysis:
    """Runs a model once, when first asked, and answers by module and operator.

    Modules go by their full names, the model by ``""``; a shared module by the first of its names. Operators go by the
    names that a trace of ``torch.jit.trace`` gives them, ``aten::linear``, though nothing is
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

    _logger = logging.getLogger("fvcore.nn.jit_analysis")
    """By this name programs silence what fvcore logs."""

    _prices: frozenset[str] = frozenset()
    """The operators that have a price before handles are set; the others count for the products inside."""

    _priced_by_arguments: frozenset[str] = frozenset()
    """Those of them whose price depends on the arguments of a call."""

    def __init__(self, model: nn.Module, inputs: Any, *, dry_run: bool | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"{type(self).__name__}: expected an nn.Module, got {model!r} of type {type(model).__name__}. "
                f"Wrap a function in a module's forward."
            )
        self._model = model
        self._inputs = inputs
        self._dry_run = dry_run
        self._names: dict[str, str] = {}
        self._op_handles: dict[str, Handle] = {}
        self._ignored_ops: set[str] = set()
        self._has_prices = bool(self._prices)
        self._stats: Tally | None = None
        self._ancestor_mode = "owner"
        self._enable_warn_unsupported_ops = True
        self._enable_warn_uncalled_mods = True
        self._warn_trace = "no_tracer_warning"

    @property
    def model(self) -> nn.Module:
        """The model under analysis."""
        return self._model

    def total(self, module_name: str = "") -> int:
        """Return the number of the whole module, all operators."""
        return sum(self.by_operator(module_name).values())

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """Return the numbers of one module, children included, by operator: ``conv``."""
        return self.by_module_and_operator()[self.canonical_module_name(module_name)]

    def by_module(self) -> Counter[str]:
        """Return the number of every module, children included; 0 for those that computed nothing."""
        return Counter({name: sum(words.values()) for name, words in self.by_module_and_operator().items()})

    def analyze(self, *others: JitModelAnalysis) -> Self:
        """Run the model now, and let other analyses of it answer from the same run, by the settings of this one.

        Raises:
            RuntimeError: That of the model; or it differentiates, and has handles that might never be called.
        """
        analyses: tuple[JitModelAnalysis, ...] = (self, *others)
        try:
            tallies = self._run(analyses)
        except RuntimeError as error:
            if not _NEEDS_AUTOGRAD.search(str(error)):
                raise
            handles = [name for analysis in analyses for name in analysis._op_handles]
            if handles:
                raise RuntimeError(
                    f"{type(self).__name__}: expected a forward that differentiates nothing, for the handles of "
                    f"{', '.join(handles)}, got {error!r}. Count it without handles, or with OpCounter."
                ) from error
            tallies = self._run(analyses, with_autograd=True)
        for analysis, tally in zip(analyses, tallies, strict=True):
            analysis._answer_from(tally)
        return self

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the numbers of every module, children included, by operator."""
        return self._analyze().counts(self._ancestor_mode)

    def canonical_module_name(self, name: str) -> str:
        """Return the name that a module is counted under: the first of a shared module's.

        Raises:
            AssertionError: That is no string; the references assert it.
            KeyError: The model has no such module.
        """
        if not isinstance(name, str):
            raise AssertionError(self._unknown_module(name))  # noqa: TRY004  (what the references raise)
        if not self._names:
            self._names = canonical_names(self._model)
        if name not in self._names:
            raise KeyError(self._unknown_module(name))
        return self._names[name]

    def _unknown_module(self, name: object) -> str:
        return (
            f"{type(self).__name__}: expected the name of a module of the model, got {name!r} of type "
            f"{type(name).__name__}. Names are those of named_modules(), the model itself is ''."
        )

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
        return self._stats.unsupported(self._ancestor_mode)[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """Return the modules that no operator ran under: unused, or used by other means than a call."""
        return self._analyze().uncalled(self._ancestor_mode)

    def set_op_handle(self, *args: Any, **kwargs: Handle | None) -> Self:
        """Set handles for operators: pairs of name and handle, or keywords; None ignores the operator.

        A handle ``(inputs, outputs) -> number or Counter`` gets all arguments and results of the operator, as objects
        that answer what a traced graph's values do: see `opcount.compat.handles.Value`.

        Where fvcore has a handle of its own for an operator, it goes on to count what None was to ignore, against its
        documentation; here None ignores it.

        Raises:
            TypeError: A name has no handle.
        """
        for name, handle in _pairs_of(args, kwargs).items():
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
        other._op_handles, other._ignored_ops = dict(self._op_handles), set(self._ignored_ops)
        return other

    def ancestor_mode(self, mode: str) -> Self:
        """Choose which modules an operator counts for.

        Args:
            mode: ``"owner"``: the module that ran it and the dotted parents of that module's name. ``"caller"``: every
                module that was running.
        """
        self._ancestor_mode = _one_of("ancestor_mode", mode, _ANCESTORS)
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
        self._warn_trace = _one_of("tracer_warnings", mode, _TRACER_WARNINGS)
        return self

    @property
    def uncounted(self) -> Counter[str]:
        """Number of calls of operators that nothing explains, by the names that a profile gives them."""
        return self._analyze().uncounted()

    @property
    def reported(self) -> nn.Module:
        """The model; after a dry run the copy that ran, if its forward made modules or parameters."""
        return self._analyze().layout.model

    def _analyze(self) -> Tally:
        if self._stats is None:
            self.analyze()
        return cast("Tally", self._stats)

    def _arguments(self) -> Arguments:
        return Arguments(self._inputs if isinstance(self._inputs, tuple) else (self._inputs,), {})

    def _run(self, analyses: Sequence[JitModelAnalysis], *, with_autograd: bool = False) -> list[Tally]:
        """Run the model: without autograd, which takes operators apart."""
        args, kwargs = self._arguments()
        named = {name for analysis in analyses for name in (*analysis._op_handles, *analysis._ignored_ops)}
        functions = {name.removeprefix(FUNCTION) for name in named if name.startswith(FUNCTION)}
        dry = runs_dry(self._model, self._dry_run)
        skeleton = skeleton_of(self._model) if dry else None
        ran = self._model if skeleton is None else skeleton.model
        tallies = [Tally() for _ in analyses]

        def add(call: Call) -> None:
            kind = trace_name_of_whole(call) if with_autograd else trace_name_of(call.operator)
            for analysis, tally in zip(analyses, tallies, strict=True):
                analysis._add(tally.at(call.stack), kind, call)

        asked = {kind for analysis in analyses for kind in (*analysis._op_handles, *analysis._priced_by_arguments)}

        def asks(operator: str) -> bool:
            return with_autograd or trace_name_of(operator) in asked

        with ExitStack() as undo:
            undo.enter_context(left_alone(self._model, *args, *kwargs.values(), dry=dry))
            undo.enter_context(fused_attention_disabled())
            if self._warn_trace == "none":
                undo.enter_context(hidden_warnings())
            whole = partial(whole_calls, ran, add, TRACED_IN_PARTS, functions, with_autograd=with_autograd)
            undo.enter_context(_telling(partial(whole, one_by_one=asks), skeleton))
            ran(*args, **kwargs)
            layout = Layout(reported(self._model, ran))
        for tally in tallies:
            tally.layout = layout
        return tallies

    def _add(self, entry: Entry, kind: str, call: Call) -> None:
        handle = self._op_handles.get(kind)
        if handle is not None:
            for word, number in _read(kind, handle(*values_of(call))).items():
                entry.counts[word] = entry.counts.get(word, 0) + number
        elif kind not in self._ignored_ops:
            number = self._price(kind, call) if self._has_prices else 0
            if number:
                word = _word(kind)
                entry.counts[word] = entry.counts.get(word, 0) + number
            if not (number or self._is_explained(kind)) or not call.priced:
                entry.unsupported[kind] = entry.unsupported.get(kind, 0) + call.calls
            if not call.priced:
                entry.uncounted[call.operator] = entry.uncounted.get(call.operator, 0) + call.calls

    def _is_explained(self, kind: str) -> bool:
        return kind in COSTS_NOTHING or (self._has_prices and kind in self._prices)

    def _price(self, kind: str, call: Call) -> int:
        raise NotImplementedError

    def _answer_from(self, tally: Tally) -> None:
        """Take the sums of a run, and log what they leave out."""
        self._stats = tally
        if self._enable_warn_unsupported_ops:
            for kind, calls in tally.unsupported("owner")[""].items():
                self._logger.warning("Unsupported operator %s encountered %d time(s)", kind, calls)
        if not self._enable_warn_uncalled_mods:
            return
        modules = tally.layout.modules
        names = sorted(n for n in self.uncalled_modules() if is_meant_to_be_called(modules[n]))
        if names:
            self._logger.warning(
                "These modules were never called; their parents include what ran: %s", ", ".join(names)
            )


@contextmanager
def _telling(whole: Callable[..., AbstractContextManager[Scopes]], skeleton: Disposable | None) -> Iterator[None]:
    """Tell of every operator while the block runs, without computing where a skeleton runs."""
    if skeleton is None:
        with whole():
            yield
        return
    scopes: list[Scopes] = []
    with without_computing(skeleton, lambda: scopes[0].running_path() if scopes else None) as run, Undo() as undo:
        scopes.append(undo.enter(whole(dry_run=run.memo)))
        run.follow(undo)
        yield


@cache
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


def _pairs_of(args: tuple[Any, ...], kwargs: Mapping[str, object]) -> dict[str, Any]:
    """Return handles by operator: of names and handles in turn, and of keywords, which come first.

    Raises:
        TypeError: A name has no handle.
    """
    if len(args) % 2:
        raise TypeError(
            f"set_op_handle: expected pairs of an operator's name and a handle, got {len(args)} arguments, "
            f"the last {args[-1]!r} of type {type(args[-1]).__name__}. Pass a handle for it, or None."
        )
    return {**kwargs, **dict(zip(args[::2], args[1::2], strict=True))}


def _one_of(who: str, mode: str, known: tuple[str, ...]) -> str:
    """Return a mode that is known.

    Raises:
        ValueError: It is not.
    """
    if mode not in known:
        names = " or ".join(map(repr, known))
        raise ValueError(f"{who}: expected {names}, got {mode!r} of type {type(mode).__name__}. Pass one of these.")
    return mode
