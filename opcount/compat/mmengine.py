"""A drop-in for ``mmengine.analysis``: the same names, numbers and texts, from one run instead of two traces."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from warnings import warn

from opcount.compat.analysis import JitModelAnalysis
from opcount.compat.parameter_table import parameter_count_table
from opcount.compat.preserve import preserved_random_state
from opcount.compat.prices import ActivationAnalysis, FlopAnalysis, complexity_of, scaled_counts
from opcount.coverage import UNCOUNTED, Coverage
from opcount.errors import InputError, UncountedOperatorWarning
from opcount.model_inputs import Arguments, dtype_and_device, random_tensor, read_shapes
from opcount.reporter.arch import arch
from opcount.reporter.complexity_table import complexity_table
from opcount.reporter.numbers import openmmlab
from opcount.structure import parameter_count

if TYPE_CHECKING:
    from collections import Counter, defaultdict

    from torch import Tensor, nn

    from opcount.compat.handles import Handle

__all__ = [
    "ActivationAnalyzer",
    "FlopAnalyzer",
    "activation_count",
    "complexity_stats_str",
    "complexity_stats_table",
    "flop_count",
    "get_model_complexity_info",
    "parameter_count",
    "parameter_count_table",
]


class _Keywords(JitModelAnalysis):
    """Differences from fvcore: a dict holds keyword arguments, and the logger is mmengine's."""

    _logger = logging.getLogger("mmengine")

    def _arguments(self) -> Arguments:
        return Arguments.of(self._inputs)


class FlopAnalyzer(_Keywords, FlopAnalysis):
    """Counts FLOPs as mmengine and fvcore do: one multiply-accumulate is one.

    Example:
        >>> import torch
        >>> flops = FlopAnalyzer(torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1)), torch.ones(1, 3, 10, 10))
        >>> flops.total(), flops.by_module(), flops.by_operator()
        (3000, Counter({'': 3000, '0': 3000}), Counter({'conv': 3000}))
    """


class ActivationAnalyzer(_Keywords, ActivationAnalysis):
    """Counts the elements of the outputs of convolution- and matmul-like operators.

    Example:
        >>> import torch
        >>> acts = ActivationAnalyzer(torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1)), torch.ones(1, 3, 10, 10))
        >>> acts.total(), acts.by_operator()
        (1000, Counter({'conv': 1000}))
    """


def flop_count(
    model: nn.Module, inputs: Any, supported_ops: dict[str, Handle] | None = None, *, dry_run: bool | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return giga-FLOPs by operator, and how often operators ran that have no handle and no price."""
    return scaled_counts(FlopAnalyzer(model, inputs, dry_run=dry_run), supported_ops, 1e9)


def activation_count(
    model: nn.Module, inputs: Any, supported_ops: dict[str, Handle] | None = None, *, dry_run: bool | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return mega-activations by operator, and how often operators ran that have no handle and no price."""
    return scaled_counts(ActivationAnalyzer(model, inputs, dry_run=dry_run), supported_ops, 1e6)


def get_model_complexity_info(
    model: nn.Module,
    input_shape: tuple[int, ...] | tuple[tuple[int, ...], ...] | None = None,
    inputs: Any = None,
    show_table: bool = True,  # noqa: FBT001, FBT002  (the reference's signature)
    show_arch: bool = True,  # noqa: FBT001, FBT002
    *,
    dry_run: bool | None = None,
) -> dict[str, Any]:
    """Run a model once and return its FLOPs, activations and parameters, as numbers and as text.

    The model runs as it is, in train or eval, and is left as it was: its buffers, its mode, its hooks and the random
    numbers; also when its forward raises.

    Args:
        model: What to run.
        input_shape: Without the batch, which is 1; a tuple of shapes gives several inputs. The tensors are normal
            random numbers of the parameters' dtype, on their device.
        inputs: A tensor, a tuple of arguments, or a dict of keyword arguments; wins over ``input_shape``.
        show_table: Make ``out_table``.
        show_arch: Make ``out_arch``.
        dry_run: True: compute nothing, on a copy of the model without its data, so that its size does not matter.
            False: compute. None: compute nothing where the model's parameters are on the meta device.

    Returns:
        ``flops``, ``activations`` and ``params`` as numbers, each as ``..._str`` too; ``out_table`` and ``out_arch``,
        which begin with a newline, or are empty when they are not shown.

    Raises:
        InputError: Neither a shape nor inputs were given, or what was given is no shape.
        DryRunError: A dry run is not possible: an operator needs values, or the model has no copy without its data.

    Example:
        >>> import torch
        >>> info = get_model_complexity_info(torch.nn.Linear(10, 10), (10,), show_arch=False)
        >>> info["flops"], info["flops_str"], info["params_str"], info["out_arch"]
        (100, '100', '0.11K', '')
        >>> print(info["out_table"].strip())
        +---------+----------------------+--------+--------------+
        | module  | #parameters or shape | #flops | #activations |
        +---------+----------------------+--------+--------------+
        | model   | 0.11K                | 100    | 10           |
        |  weight |  (10, 10)            |        |              |
        |  bias   |  (10,)               |        |              |
        +---------+----------------------+--------+--------------+
    """
    if inputs is None:
        if input_shape is None:
            raise InputError(
                "get_model_complexity_info: expected an input shape or inputs, got None of type NoneType for both. "
                "Pass input_shape=(3, 224, 224), or inputs=model_inputs."
            )
        inputs = _random_inputs(model, input_shape)
    flops, activations = FlopAnalyzer(model, inputs, dry_run=dry_run), ActivationAnalyzer(model, inputs)
    for analyzer in (flops, activations):
        analyzer.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    flops.analyze(activations)
    _warn_of_uncounted(flops.uncounted)
    complexity = complexity_of(flops, activations)
    numbers = {
        "flops": complexity.columns["flops"][""],
        "activations": complexity.columns["acts"][""],
        "params": complexity.structure.params.get("", 0),
    }
    return {
        **numbers,
        **{f"{name}_str": openmmlab(number) for name, number in numbers.items()},
        "out_table": f"\n{complexity_table(complexity)}" if show_table else "",
        "out_arch": f"\n{arch(complexity)}" if show_arch else "",
    }


def complexity_stats_table(
    flops: FlopAnalyzer,
    max_depth: int = 3,
    activations: ActivationAnalyzer | None = None,
    show_param_shapes: bool = True,  # noqa: FBT001, FBT002  (the reference's signature)
) -> str:
    """Return modules and parameters to ``max_depth`` as a table; a newline ends it.

    A row that says nothing more than its only child gives way to it; names without any number are left out.
    """
    return complexity_table(complexity_of(flops, activations), max_depth, show_param_shapes=show_param_shapes)


def complexity_stats_str(flops: FlopAnalyzer, activations: ActivationAnalyzer | None = None) -> str:
    """Return the model as ``repr`` does, with a line of statistics for every module."""
    return arch(complexity_of(flops, activations))


def _random_inputs(model: nn.Module, input_shape: object) -> tuple[Tensor, ...]:
    """Return one random tensor for every shape, with a batch of 1 before it, as the model's parameters are.

    The generators are put back, so that the program around draws what it would have drawn.
    """
    shapes = read_shapes(input_shape, "get_model_complexity_info")
    with preserved_random_state(model):
        return tuple(random_tensor((1, *shape), *dtype_and_device(model)) for shape in shapes)


def _warn_of_uncounted(calls: Counter[str]) -> None:
    if calls:
        coverage = Coverage.of(((operator, UNCOUNTED, number, 0) for operator, number in calls.items()), {})
        warn(f"{coverage.verdict()}. Register one with @opcount.formula.", UncountedOperatorWarning, stacklevel=3)
