"""Rules for operators without a formula: one operation for each output element, or for each input element.

PyTorch tags most elementwise operators ``pointwise`` and, lately, most reductions ``reduction``. An overload that
lacks the tag is judged by its siblings: ``add.Scalar_out`` computes what ``add.Tensor`` does. What no version tags
stands in two lists. A transcendental function counts one, a comparison counts one, and so does an operation on
complex numbers: only the products of contractions are told apart by dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import schema_of
from opcount.cost import Cost, new_cost
from opcount.coverage import FREE
from opcount.formulas.free import FREE_NAMES, is_free, packet_base
from opcount.formulas.sizes import scalars
from opcount.registry import Formula

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opcount._torch.dispatch import OpOverload

_STRIDED = torch.strided
_NOTHING = Cost()

ELEMENTWISE = """
_add_relu _conj_physical _prelu_kernel bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift
bitwise_xor elu_backward erf_inv floor_divide hardshrink_backward hardsigmoid_backward hardswish hardswish_backward
hardtanh_backward leaky_relu leaky_relu_backward log_sigmoid_backward mish_backward
rrelu_with_noise_backward softplus_backward softshrink_backward threshold_backward rrelu_with_noise
rrelu_with_noise_functional isfinite bessel_i0 bessel_i0e bessel_i1 bessel_i1e bessel_j0 bessel_j1 cbrt
conj_physical shift_left shift_right_arithmetic spherical_bessel_j0 signed_log1p clamp_nan_to_num
_standard_gamma_grad _dirichlet_grad
abs acos acosh add asin asinh atan atan2 atanh ceil cos cosh digamma div eq erf erfc exp exp2 expm1 floor fmax fmin
fmod frexp gcd ge gt hypot igamma igammac le lgamma log log10 log1p log2 lt maximum minimum mul ndtri ne neg
nextafter pow reciprocal remainder round rsqrt sign signbit sin sinh sqrt sub tan tanh trunc where zeta erfcx
bitwise_not
leaky_relu
celu elu hardshrink hardsigmoid hardtanh mish rad2deg relu6 rrelu selu softplus softshrink threshold
isinf silu
"""
"""Elementwise operators that some version does not tag; the last lines: in ``prims``; up to 2.10; 2.5; 2.2."""

REDUCTIONS = """
_aminmax _amp_update_scale _is_all_true _is_any_true _logcumsumexp _cummax_helper _cummin_helper
_sparse_csr_prod _sparse_csr_sum _sparse_sum _nested_sum_backward all allclose amax amin aminmax any argmax argmin
bincount count_nonzero cummax cummin cumprod cumsum equal hash_tensor histc kthvalue linalg__powsum logcumsumexp max
mean median min mode nanmean nanmedian nansum prod segment_reduce _segment_reduce_backward std_mean sum topk
trace var_mean xor_sum std var _foreach_powsum native_norm norm linalg_vector_norm
"""
"""Operators that look at each input element once, a sum or a comparison each."""

_ELEMENTWISE = frozenset(ELEMENTWISE.split())
_REDUCTIONS = frozenset(REDUCTIONS.split())
_FAMILIAR = frozenset({"aten", "prims", "static_runtime"})


def free(_out: Any, /, *_: Any, **__: Any) -> Cost:
    """Declared free: moves, makes, names or looks at data."""
    return _NOTHING


def each_output(out: Any, /, *_: Any, **__: Any) -> Cost:
    """One operation for each output element."""
    return new_cost(Cost, (0, out.numel() if out.layout is _STRIDED else scalars(out), 0))


def each_of_the_outputs(out: Any, /, *args: Any, **_: Any) -> Cost:
    """One operation for each element of all outputs; in-place on a list, of that list."""
    return new_cost(Cost, (0, scalars(args[0] if out is None or isinstance(out, bool) else out), 0))


def each_input(_out: Any, x: Any, /, *_: Any, **__: Any) -> Cost:
    """One operation for each input element."""
    return new_cost(Cost, (0, scalars(x), 0))


DECLARED_FREE = Formula(free, FREE)
ONE_PER_OUTPUT = Formula(each_output, "elementwise")
ONE_PER_OUTPUTS = Formula(each_of_the_outputs, "elementwise")
ONE_PER_INPUT = Formula(each_input, "reduction")


def rule_for(func: OpOverload) -> Formula | None:
    """Return how an operator is priced that has no formula; None when nothing is known about it.

    Example:
        >>> rule_for(torch.ops.aten.sin.default).text
        'One operation for each output element.'
        >>> rule_for(torch.ops.aten.view.default).family
        'free'
    """
    namespace, _, packet = schema_of(func).name.partition("::")
    name = packet_base(packet)
    if is_free(func):
        return DECLARED_FREE
    if namespace == "aten" and name.startswith("_foreach_"):
        return _of_each(name)
    kind = _tagged(func.tags) or _listed(namespace, name)
    if kind == "pointwise":
        return ONE_PER_OUTPUT if _returns_one_tensor(func) else ONE_PER_OUTPUTS
    return ONE_PER_INPUT if kind == "reduction" else None


def _of_each(name: str) -> Formula | None:
    """Judge an operator on lists by the operator that it applies to each member."""
    single = name[len("_foreach_") :]
    if single in FREE_NAMES:
        return DECLARED_FREE
    if name in _REDUCTIONS:
        return ONE_PER_INPUT
    kind = _listed("aten", single)
    return ONE_PER_INPUT if kind == "reduction" else ONE_PER_OUTPUTS if kind else None


def _tagged(tags: Iterable[torch.Tag]) -> str | None:
    names = {tag.name for tag in tags}
    return next((kind for kind in ("pointwise", "reduction") if kind in names), None)


def _listed(namespace: str, name: str) -> str | None:
    if namespace not in _FAMILIAR:
        return None
    if name in _REDUCTIONS:
        return "reduction"
    if name in _ELEMENTWISE:
        return "pointwise"
    packets = (getattr(getattr(torch.ops, namespace), spelling, None) for spelling in (name, f"{name}_"))
    return _tagged(tag for packet in packets if packet is not None for tag in _tags(packet))


def _tags(packet: Any) -> Iterable[torch.Tag]:
    return (tag for overload in packet.overloads() for tag in getattr(packet, overload).tags)


def _returns_one_tensor(func: OpOverload) -> bool:
    returns = schema_of(func).returns
    return len(returns) == 1 and str(returns[0].type) == "Tensor"
