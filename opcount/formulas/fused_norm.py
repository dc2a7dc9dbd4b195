"""Norms and softmax of fused kernels: as the operators that they stand for, in the families of these.

A norm takes 5 operations for each element, an RMS norm 4, a softmax 5; see `norm` and `reduction`.

Sources: NVIDIA/apex (``normalization/fused_layer_norm.py``, ``contrib/layer_norm``, ``transformer/functional``), which
Megatron-LM has, too; Liger-Kernel 0.4 to 0.8 (``liger_kernel/ops``); mmcv 1.0 to 2.2 (``sync_bn.py``); flash-attn 2 and
mamba 1.0 to 2.3 (``ops/triton``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, require
from opcount.formulas.sizes import is_tensor, register_function

if TYPE_CHECKING:
    from torch import Tensor


def layer_norm(_out: object, x: Tensor, weight: Any = None, /, *_: object) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: 5 for each element, 4 without weight."""
    return Cost(0, x.numel() * (4 + is_tensor(weight)))


def layer_norm_backward(_out: object, x: Tensor, weight: Any = None, bias: Any = None, /, *_: object) -> Cost:
    """As ``native_layer_norm_backward``: ``xhat`` 2, ``dx`` 7 and 1 for the weight, ``dweight`` 2, ``dbias`` 1."""
    each = 2 + 7 * needs_grad(x) + is_tensor(weight) * needs_grad(x) + 2 * needs_grad(weight) + needs_grad(bias)
    return Cost(0, x.numel() * each)


def rms_norm(_out: object, x: Tensor, weight: Any = None, /, *_: object) -> Cost:
    """``out = x * rsqrt(mean(x * x)) * weight``: 4 for each element, 3 without weight."""
    return Cost(0, x.numel() * (3 + is_tensor(weight)))


def rms_norm_backward(_out: object, x: Tensor, weight: Any = None, /, *_: object) -> Cost:
    """As ``_fused_rms_norm_backward``: ``xhat`` 1, ``dx`` 5 and 1 for the weight, ``dweight`` 2."""
    each = 1 + 5 * needs_grad(x) + is_tensor(weight) * needs_grad(x) + 2 * needs_grad(weight)
    return Cost(0, x.numel() * each)


def add_rms_norm(_out: object, x: Tensor, _residual: Tensor, weight: Tensor, /, *_: object) -> Cost:
    """``s = x + residual; out = s * rsqrt(mean(s * s)) * weight``: 5 for each element."""
    return Cost(0, x.numel()) + rms_norm(_out, x, weight)


def add_rms_norm_backward(_out: object, x: Tensor, _residual: Tensor, weight: Tensor, /, *_: object) -> Cost:
    """An RMS norm's, and the sum with the gradient of ``s``: one more for each element."""
    return Cost(0, x.numel() * (8 + 2 * needs_grad(weight)))


def group_norm(_out: object, x: Tensor, /, *_: object) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: 5 for each element."""
    return Cost(0, 5 * x.numel())


def norm_backward(_out: object, x: Tensor, /, *_: object) -> Cost:
    """``sum(dy)``, ``sum(dy * xhat)``, ``dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat))``: 9 each."""
    return Cost(0, 9 * x.numel())


def triton_norm(_out: object, x: Tensor, _weight: Any, _bias: Any, *args: Any) -> Cost:
    """A layer norm, 5 for each element, or an RMS norm, 4; one for a residual, two for a gate, two for dropout.

    The class stands in several files with several arguments; their number and kinds tell which. Two norms of one sum
    (``x1``, ``weight1``) are not counted: named.
    """
    rms, extra = _triton_arguments(args)
    return Cost(0, x.numel() * (4 + (not rms) + extra))


def triton_norm_backward(_out: object, x: Tensor, weight: Any, bias: Any, *args: Any) -> Cost:
    """A layer norm's or an RMS norm's; one for a residual, five for a gate, two for dropout."""
    rms, extra = _triton_arguments(args)
    norm = rms_norm_backward(_out, x, weight) if rms else layer_norm_backward(_out, x, weight, bias)
    return norm + Cost(0, x.numel() * (5 if _is_gate(args) else extra))


def _triton_arguments(args: tuple[Any, ...]) -> tuple[bool, int]:
    """Return whether the norm is an RMS norm, and the operations beside it, from what follows the bias."""
    if len(args) == 5:  # (residual, eps, prenorm, fp32, rms) or (z, eps, group, norm_before_gate, rms)
        return args[4], 2 * _is_gate(args) if args[2] is None or _is_gate(args) else is_tensor(args[0])
    require(len(args) in {11, 14, 15}, "the arguments of LayerNormFn", args)
    residual, second, *_, dropout = args[:6]
    require(second is None and args[6] is None, "one norm, and no scale of rows", second)
    return args[9 if len(args) == 11 else 10], is_tensor(residual) + 2 * (dropout > 0)


def _is_gate(args: tuple[Any, ...]) -> bool:
    """Return whether the class is the gated one, and has a gate."""
    return len(args) == 5 and not isinstance(args[2], bool) and is_tensor(args[0])


_APEX_NORMS = "FusedLayerNormAffineFunction FusedLayerNormAffineMixedDtypesFunction FusedLayerNormFunction"
_APEX_RMS = "FusedRMSNormAffineFunction FusedRMSNormAffineMixedDtypesFunction FusedRMSNormFunction"
register_function("norm", f"{_APEX_NORMS} FastLayerNormFN LigerLayerNormFunction", layer_norm, layer_norm_backward)
register_function("norm", f"{_APEX_RMS} LigerRMSNormFunction", rms_norm, rms_norm_backward)
register_function("norm", "LigerFusedAddRMSNormFunction", add_rms_norm, add_rms_norm_backward)
register_function("norm", "LayerNormFn", triton_norm, triton_norm_backward)
register_function("norm", "LigerGroupNormFunction SyncBatchNormFunction", group_norm, norm_backward)


def softmax(out: Tensor, /, *_: object) -> Cost:
    """``softmax(x)``: five operations for each element."""
    return Cost(0, 5 * out.numel())


def softmax_backward(out: Tensor, /, *_: object) -> Cost:
    """``y * (g - sum(g * y))``: four operations for each element."""
    return Cost(0, 4 * out.numel())


def scaled_softmax(out: Tensor, /, *_: object) -> Cost:
    """``softmax(scale * x)``: six operations for each element."""
    return Cost(0, 6 * out.numel())


def masked_softmax(out: Tensor, _x: Tensor, mask: Any = None, /, *_: object) -> Cost:
    """``softmax(scale * x + mask)``: seven operations for each element, six without a mask."""
    return Cost(0, out.numel() * (6 + is_tensor(mask)))


def causal_softmax(out: Tensor, /, *_: object) -> Cost:
    """``softmax(scale * x + mask)``, the mask known: seven operations for each element, masked ones included."""
    return Cost(0, 7 * out.numel())


def scaled_softmax_backward(out: Tensor, /, *_: object) -> Cost:
    """``scale * y * (g - sum(g * y))``: five operations for each element."""
    return Cost(0, 5 * out.numel())


register_function("reduction", "LigerSoftmaxFunction", softmax, softmax_backward)
register_function("reduction", "ScaledSoftmax", scaled_softmax, scaled_softmax_backward)
register_function(
    "reduction", "ScaledMaskedSoftmax GenericScaledMaskedSoftmax", masked_softmax, scaled_softmax_backward
)
register_function("reduction", "ScaledUpperTriangMaskedSoftmax", causal_softmax, scaled_softmax_backward)
