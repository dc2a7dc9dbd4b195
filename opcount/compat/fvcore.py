"""A drop-in for ``fvcore.nn``: the same names, numbers and texts, from a run of the model instead of a trace.

Numbers differ from fvcore's where those leave work out or misread a shape:

* Work whose result nobody uses, or decides only what runs next, is cut from a trace; here it ran, and counts.
* Attention, recurrent layers, ``padding="same"``, ``baddbmm``, ``bilinear``, quantized and sparse products, and what
  runs inside an ``autograd.Function``, count 0 in fvcore, and here for their products. ``mm`` has activations, too.
* Of a matrix times a batch of matrices fvcore counts one product, and it fails on a matrix times a vector. It misreads
  the shape of an image without a batch.
* ``einsum`` counts the products that ran. fvcore counts those of the best order that NumPy finds, to four digits, and
  half an outer product, which is elementwise: here that is 0, as any elementwise product.
* An operator whose handle is None is ignored, also where fvcore has a handle of its own and counts it nevertheless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.compat.analysis import JitModelAnalysis
from opcount.compat.jit_handles import FLOP_HANDLES
from opcount.compat.parameter_table import PARAMETER_HEADERS, parameter_rows
from opcount.compat.prices import ActivationAnalysis, FlopAnalysis, complexity_of, scaled_counts
from opcount.reporter.arch import arch
from opcount.reporter.complexity_table import complexity_rows
from opcount.reporter.pipe import piped
from opcount.structure import parameter_count

if TYPE_CHECKING:
    from collections import Counter, defaultdict

    from torch import nn

    from opcount.compat.handles import Handle
    from opcount.reporter.complexity_table import Complexity

__all__ = [
    "ActivationCountAnalysis",
    "FlopCountAnalysis",
    "JitModelAnalysis",
    "activation_count",
    "flop_count",
    "flop_count_str",
    "flop_count_table",
    "parameter_count",
    "parameter_count_table",
]

_DEFAULT_SUPPORTED_OPS = FLOP_HANDLES
"""The name that programs know, which look up a handle to build on."""


class FlopCountAnalysis(FlopAnalysis):
    """Counts FLOPs: one multiply-accumulate is one.

    Example:
        >>> import torch
        >>> flops = FlopCountAnalysis(torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1)), torch.ones(1, 3, 10, 10))
        >>> flops.total(), flops.by_module(), flops.by_operator()
        (3000, Counter({'': 3000, '0': 3000}), Counter({'conv': 3000}))
    """


class ActivationCountAnalysis(ActivationAnalysis):
    """Counts the elements of the outputs of convolutions and products."""


def flop_count(
    model: nn.Module, inputs: Any, supported_ops: dict[str, Handle] | None = None, *, dry_run: bool | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return giga-FLOPs by operator, and how often operators ran that have no handle and no price."""
    return scaled_counts(FlopCountAnalysis(model, inputs, dry_run=dry_run), supported_ops, 1e9)


def activation_count(
    model: nn.Module, inputs: Any, supported_ops: dict[str, Handle] | None = None, *, dry_run: bool | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return mega-activations by operator, and how often operators ran that have no handle and no price."""
    return scaled_counts(ActivationCountAnalysis(model, inputs, dry_run=dry_run), supported_ops, 1e6)


def flop_count_table(
    flops: FlopCountAnalysis,
    max_depth: int = 3,
    activations: ActivationCountAnalysis | None = None,
    show_param_shapes: bool = True,  # noqa: FBT001, FBT002  (the reference's signature)
) -> str:
    """Return modules and parameters to ``max_depth`` as a table; the analyses' warnings are off from then on.

    A row that says nothing more than its only child gives way to it; names without any number are left out.
    """
    return piped(*complexity_rows(_complexity(flops, activations), max_depth, show_param_shapes=show_param_shapes))


def flop_count_str(flops: FlopCountAnalysis, activations: ActivationCountAnalysis | None = None) -> str:
    """Return the model as ``repr`` does, with statistics of every module; the analyses' warnings are off from then on.

    Example:
        >>> import torch
        >>> print(flop_count_str(FlopCountAnalysis(torch.nn.Linear(10, 10), torch.ones(1, 10))))
        Linear(
          in_features=10, out_features=10, bias=True
          #params: 0.11K, #flops: 100
        )
    """
    return arch(_complexity(flops, activations))


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Return the parameters as a table: modules to ``max_depth`` levels, and shapes of parameters."""
    return piped(PARAMETER_HEADERS, parameter_rows(model, max_depth))


def _complexity(flops: FlopCountAnalysis, activations: ActivationCountAnalysis | None) -> Complexity:
    for analysis in (flops, activations):
        if analysis is not None:
            analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
            analysis.tracer_warnings("none")
    return complexity_of(flops, activations)
