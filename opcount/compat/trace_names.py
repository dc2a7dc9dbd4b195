"""Names of operators in a trace of ``torch.jit.trace``, and those to which fvcore gives no cost."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from opcount.compat.handles import Value, complete

if TYPE_CHECKING:
    from opcount.interceptor import Call

FUNCTION = "prim::PythonOp."
"""Prefix of the name of an ``autograd.Function`` subclass."""

TRACED_IN_PARTS = frozenset(
    f"aten.{name}"
    for name in (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
        "gru_cell lstm_cell rnn_relu_cell rnn_tanh_cell"
    ).split()
)
"""Packets that a trace replaces by the operators that they call."""

COSTS_NOTHING = frozenset(
    f"aten::{name}"
    for name in (
        "Int ScalarImplicit __and__ arange bitwise_not cat chunk clamp clamp_ constant_pad_nd contiguous copy_ detach "
        "dropout empty eq expand flatten floor floor_divide full full_like gather ge gt index index_put_ masked_fill "
        "max narrow new_empty new_full new_zeros nonzero ones permute relu relu_ remainder reshape roll select size "
        "slice split split_with_sizes squeeze stack t to transpose type_as unbind unsqueeze unsqueeze_ view zeros "
        "zeros_like"
    ).split()
)
"""Operators that fvcore never lists as unsupported."""

_NAMES_OF_PARTS = {
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
    "_log_softmax": "log_softmax",
    "_softmax": "softmax",
    "convolution": "_convolution",
    "cudnn_batch_norm": "batch_norm",
    "grid_sampler_2d": "grid_sampler",
    "grid_sampler_3d": "grid_sampler",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "miopen_batch_norm": "batch_norm",
    "native_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
    **{
        f"_scaled_dot_product_{kernel}": "scaled_dot_product_attention"
        for kernel in (
            "flash_attention_for_cpu flash_attention efficient_attention cudnn_attention fused_attention_overrideable"
        ).split()
    },
}
"""Names in a trace by the name under which an operator dispatches when autograd decomposes composites."""

_ALIASES = {
    "absolute": "abs",
    "alias": "detach",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctanh": "atanh",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "convolution": "_convolution",
    "detach_": "detach",
    "divide": "div",
    "fix": "trunc",
    "ger": "outer",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "lift_fresh": "detach",
    "moveaxis": "movedim",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "row_stack": "vstack",
    "subtract": "sub",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "true_divide": "div",
}
"""Names that a trace replaces by others; aliases and constants are of those that cost nothing."""


@cache
def trace_name_of(operator: str) -> str:
    """Return the name in a trace.

    Example:
        >>> trace_name_of("aten.convolution.default"), trace_name_of("aten.clip_.default")
        ('aten::_convolution', 'aten::clamp_')
        >>> trace_name_of("mylib.scan.default"), trace_name_of("autograd.Scan")
        ('mylib::scan', 'prim::PythonOp.Scan')
    """
    if "::" in operator:
        return operator
    namespace, name = operator.split(".")[:2]
    if namespace == "autograd":
        return f"{FUNCTION}{name}"
    if namespace != "aten":
        return f"{namespace}::{name}"
    in_place = "_" if name not in _ALIASES and name.endswith("_") else ""
    return f"aten::{_ALIASES.get(name.removesuffix(in_place), name.removesuffix(in_place))}{in_place}"


def trace_name_of_whole(call: Call) -> str:
    """Return the name in a trace of an operator that autograd decomposed: ``addmm`` was a linear layer, mostly."""
    packet = call.operator.split(".")[1]
    if packet == "mean" and call.flops:
        return "aten::adaptive_avg_pool2d"
    if packet == "addmm":
        return "aten::linear"
    return f"aten::{_NAMES_OF_PARTS[packet]}" if packet in _NAMES_OF_PARTS else trace_name_of(call.operator)


def values_of(call: Call) -> tuple[list[Value], list[Value]]:
    """Return inputs and outputs as a handle gets them: all arguments of the schema, defaults included."""
    inputs = list(call.args) if call.func is None else complete(call.func, call.args, call.kwargs)
    if call.operator.startswith("aten.convolution."):
        inputs += _flags_of_convolutions()
    outputs = call.out if isinstance(call.out, (tuple, list)) else (call.out,)
    return list(map(Value, inputs)), list(map(Value, outputs))


def _flags_of_convolutions() -> list[Any]:
    """Return what ``aten::_convolution`` takes and ``aten::convolution`` does not."""
    cudnn = torch.backends.cudnn
    return [cudnn.benchmark, cudnn.deterministic, cudnn.enabled, cudnn.allow_tf32]
