"""Prices of operators in the analyses of mmengine and fvcore: FLOPs and activations."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from opcount.compat.analysis import JitModelAnalysis
from opcount.compat.jit_handles import FLOP_HANDLES
from opcount.reporter.complexity_table import Complexity
from opcount.structure import structure_of

if TYPE_CHECKING:
    from collections import Counter

    from torch import Tensor

    from opcount.compat.handles import Handle
    from opcount.interceptor import Call


class FlopAnalysis(JitModelAnalysis):
    """Counts FLOPs: one multiply-accumulate is one."""

    _prices = frozenset(FLOP_HANDLES)
    _priced_by_arguments = frozenset({"aten::instance_norm"})

    def _price(self, kind: str, call: Call) -> int:
        if kind == "aten::instance_norm":  # by one rule, be the statistics the input's or those that were kept
            return _elements(call.args[0]) * (4 if call.args[1] is None else 5)
        return call.flops if kind in self._prices else call.macs


class ActivationAnalysis(JitModelAnalysis):
    """Counts the elements of the outputs of convolutions and products."""

    _prices = frozenset(f"aten::{name}" for name in "_convolution addmm bmm einsum linear matmul mm".split())

    def _price(self, kind: str, call: Call) -> int:
        return call.elements if kind in self._prices else call.activations


def _elements(tensor: Tensor) -> int:
    return tensor.numel()


def scaled_counts(
    analysis: JitModelAnalysis, supported_ops: dict[str, Handle] | None, scale: float
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return counts by operator in units of ``scale``, and how often operators ran that have no handle and no price."""
    analysis.set_op_handle(**(supported_ops or {}))
    counts = defaultdict(float, {word: number / scale for word, number in analysis.by_operator().items()})
    return counts, analysis.unsupported_ops()


def complexity_of(flops: JitModelAnalysis, activations: JitModelAnalysis | None) -> Complexity:
    """Return the data of tables and texts."""
    analyses = {"flops": flops} if activations is None else {"flops": flops, "acts": activations}
    return Complexity(
        structure_of(flops.reported),
        {column: analysis.by_module() for column, analysis in analyses.items()},
        {column: analysis.uncalled_modules() for column, analysis in analyses.items()},
    )
