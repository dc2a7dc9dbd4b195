"""The analyzers of mmengine: one run of a model, asked by module and operator."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from opcount.compat.answers import ANCESTORS, TRACER_WARNINGS, Answers, one_of, pairs_of
from opcount.compat.handles import Handle, arrivals, formulas_of
from opcount.compat.inputs import Inputs
from opcount.compat.run import Run, run
from opcount.compat.structure import is_meant_to_be_called
from opcount.compat.subject import runs_dry
from opcount.cost import Cost
from opcount.coverage import UNCOUNTED

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self

    from opcount.profile import Record


_log = logging.getLogger("opcount")


class Analyzer(Answers):
    """Runs a model once, when first asked, and answers by module and operator.

    Args:
        model: Run as it is: in train or eval as the caller left it. Its buffers, mode and random numbers are put back.
        inputs: A tensor, a tuple of arguments, or a dict of keyword arguments.
        dry_run: True: compute nothing, on a copy of the model without its data. False: compute. None: compute nothing
            where the model's parameters are on the meta device.

    Raises:
        DryRunError: When first asked: a dry run is not possible.
    """

    def __init__(self, model: nn.Module, inputs: object, *, dry_run: bool | None = None) -> None:
        super().__init__(model, inputs, dry_run=dry_run)
        self._handles: dict[str, Handle] = {}
        self._ignored: set[str] = set()
        self._words: dict[str, str] = {}
        self._ran: Run | None = None
        self._ancestors = "owner"
        self._warns_unsupported = True
        self._warns_uncalled = True

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the numbers of every module, children included, by operator."""
        return self._run().by_module_and_operator(self._value_of, self._word_of, self._ancestors)

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """Return how often operators ran that nothing explains, as ``aten::name``.

        In mmengine these are all operators without a handle, elementwise ones too. Here those have a price, which this
        count of FLOPs leaves out by convention; only what has none is listed.
        """
        uncounted = self._run().by_module_and_operator(_uncounted_calls, _name_in_a_trace, self._ancestors)
        return uncounted[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """Return the modules that no operator ran under: unused, or used by other means than a call."""
        return self._run().uncalled(self._ancestors)

    def set_op_handle(self, *args: Any, **kwargs: Handle | None) -> Self:
        """Set handles for operators: pairs of name and handle, or keywords; None ignores the operator.

        A handle gets the inputs and outputs of the operator that reaches a dispatcher, as objects that answer what a
        traced graph's values do; `opcount.compat.handles` tells the difference. It also prices the in-place form.

        Raises:
            TypeError: A name has no handle.
            FormulaError: There is no such operator, or it arrives as others with other arguments.
        """
        for name, handle in pairs_of(args, kwargs).items():
            if handle is None:
                self._ignored.add(name)
            else:
                formulas_of({name: handle}, self._cost, {})
                self._handles[name] = handle
        self._forget()
        return self

    def clear_op_handles(self) -> Self:
        """Forget all handles that were set, and which operators to ignore."""
        self._handles.clear()
        self._ignored.clear()
        self._forget()
        return self

    def copy(self, new_model: nn.Module | None = None, new_inputs: object = None) -> Self:
        """Return an analyzer with the same settings, for another model or other inputs."""
        model = self._model if new_model is None else new_model
        other = type(self)(model, self._inputs if new_inputs is None else new_inputs, dry_run=self._dry_run)
        other.set_op_handle(**self._handles, **dict.fromkeys(self._ignored))
        other._ancestors = self._ancestors  # noqa: SLF001  (of this class)
        return other.unsupported_ops_warnings(self._warns_unsupported).uncalled_modules_warnings(self._warns_uncalled)

    def ancestor_mode(self, mode: str) -> Self:
        """Choose which modules an operator counts for.

        Args:
            mode: ``"owner"``: the module that ran it and the dotted parents of that module's name. ``"caller"``: every
                module that was running.
        """
        self._ancestors = one_of("ancestor_mode", mode, ANCESTORS)
        return self

    def unsupported_ops_warnings(self, enabled: bool) -> Self:  # noqa: FBT001  (the reference's signature)
        """Choose whether operators that nothing explains are warned of."""
        self._warns_unsupported = enabled
        return self

    def uncalled_modules_warnings(self, enabled: bool) -> Self:  # noqa: FBT001  (the reference's signature)
        """Choose whether modules that were never called are logged."""
        self._warns_uncalled = enabled
        return self

    def tracer_warnings(self, mode: str) -> Self:
        """Accept what the reference takes; nothing is traced here, so there is nothing to warn of."""
        one_of("tracer_warnings", mode, TRACER_WARNINGS)
        return self

    def share_run(self, other: Analyzer) -> Self:
        """Answer from the run of another analyzer of the same model and inputs, where neither has handles."""
        self._ran = other._run()
        return self

    @property
    def reported(self) -> nn.Module:
        """The model; after a dry run the copy that ran, if its forward made modules or parameters."""
        return self._run().model

    def _run(self) -> Run:
        if self._ran is None:
            formulas = formulas_of(self._handles, self._cost, self._words)
            quiet, dry = not self._warns_unsupported, runs_dry(self._model, self._dry_run)
            self._ran = run(self._model, Inputs.of(self._inputs), formulas, quiet=quiet, dry=dry)
            self._log_uncalled()
        return self._ran

    def _forget(self) -> None:
        self._ran = None
        self._words.clear()

    def _log_uncalled(self) -> None:
        modules = self._run().modules
        names = sorted(name for name in self.uncalled_modules() if is_meant_to_be_called(modules[name]))
        if self._warns_uncalled and names:
            _log.warning(
                "no operator ran in a call of these modules; their parents include what ran: %s", ", ".join(names)
            )

    def _value_of(self, record: Record) -> int:
        return 0 if self._is_ignored(record) else self._number(record)

    def _word_of(self, record: Record) -> str:
        return self._words.get(record.operator) or self._run().word_of(record)

    def _is_ignored(self, record: Record) -> bool:
        if not self._ignored:
            return False
        packet = record.operator.rpartition(".")[0]
        names = {name.rpartition("::")[2] for name in self._ignored}
        return self._run().word_of(record) in names or any(packet in arrivals(name) for name in self._ignored)

    def _number(self, record: Record) -> int:
        raise NotImplementedError

    @staticmethod
    def _cost(number: int) -> Cost:
        raise NotImplementedError


class FlopAnalyzer(Analyzer):
    """Counts FLOPs as mmengine and fvcore do: one multiply-accumulate is one.

    Example:
        >>> import torch
        >>> flops = FlopAnalyzer(torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1)), torch.ones(1, 3, 10, 10))
        >>> flops.total(), flops.by_module(), flops.by_operator()
        (3000, Counter({'': 3000, '0': 3000}), Counter({'conv': 3000}))
    """

    def _number(self, record: Record) -> int:
        return self._run().profile.convention.flops(record.operator, record.family, record.cost)

    @staticmethod
    def _cost(number: int) -> Cost:
        return Cost(macs=number)


class ActivationAnalyzer(Analyzer):
    """Counts the elements of the outputs of convolution- and matmul-like operators.

    Example:
        >>> import torch
        >>> acts = ActivationAnalyzer(torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1)), torch.ones(1, 3, 10, 10))
        >>> acts.total(), acts.by_operator()
        (1000, Counter({'conv': 1000}))
    """

    def _number(self, record: Record) -> int:
        return record.cost.activations

    @staticmethod
    def _cost(number: int) -> Cost:
        return Cost(activations=number)


def flop_count(
    model: nn.Module, inputs: object, supported_ops: dict[str, Handle] | None = None, *, dry_run: bool | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return giga-FLOPs by operator, and how often operators ran that nothing explains."""
    return _count(FlopAnalyzer(model, inputs, dry_run=dry_run), supported_ops, 1e9)


def activation_count(
    model: nn.Module, inputs: object, supported_ops: dict[str, Handle] | None = None, *, dry_run: bool | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return mega-activations by operator, and how often operators ran that nothing explains."""
    return _count(ActivationAnalyzer(model, inputs, dry_run=dry_run), supported_ops, 1e6)


def _count(
    analyzer: Analyzer, supported_ops: dict[str, Handle] | None, scale: float
) -> tuple[defaultdict[str, float], Counter[str]]:
    analyzer.set_op_handle(**(supported_ops or {}))
    counts = defaultdict(float, {word: number / scale for word, number in analyzer.by_operator().items()})
    return counts, analyzer.unsupported_ops()


def _uncounted_calls(record: Record) -> int:
    return record.calls if record.family == UNCOUNTED else 0


def _name_in_a_trace(record: Record) -> str:
    """Return ``aten::mm`` for ``aten.mm.default``."""
    return "::".join(record.operator.split(".")[:2])
