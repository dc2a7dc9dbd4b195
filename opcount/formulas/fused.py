"""Norms, activations, softmax, rotary embeddings and losses of fused kernels: as the operators that they stand for.

Each belongs to the family of what it stands for and counts what PyTorch's operators count: a norm 5 for each element, a
softmax 5, an activation 1 and its backward 2.

Sources: NVIDIA/apex (``normalization/fused_layer_norm.py``, ``contrib/layer_norm``, ``transformer/functional``), which
Megatron-LM has, too; Liger-Kernel 0.4 to 0.8 (``liger_kernel/ops``); mmcv 1.0 to 2.2 (``focal_loss.py``,
``sync_bn.py``, ``fused_bias_leakyrelu.py``, ``bias_act.py``); flash-attn 2 and mamba 1.0 to 2.3 (``ops/triton``,
``layers/rotary.py``); rosinality/stylegan2-pytorch (``op/fused_act.py``); NVlabs/stylegan3
(``torch_utils/ops/bias_act.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, options_of, require
from opcount.formulas.sizes import register, scalars
from opcount.registry import ByClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Price = Callable[..., Cost]


def _names(words: str, suffix: str = "") -> list[str]:
    return [f"autograd.{word}{suffix}" for word in words.split()]


def _pair(family: str, words: str, forward: Price, backward: Price) -> None:
    """Register a function's price and its backward's."""
    register(family, forward, _names(words))
    register(family, backward, _names(words, "Backward"))


def layer_norm(_out: object, x: Tensor, weight: Any = None, /, *_: object) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: 5 for each element, 4 without weight."""
    return Cost(0, x.numel() * (4 + _is_tensor(weight)))


def layer_norm_backward(_out: object, x: Tensor, weight: Any = None, bias: Any = None, /, *_: object) -> Cost:
    """As ``native_layer_norm_backward``: ``xhat`` 2, ``dx`` 7 and 1 for the weight, ``dweight`` 2, ``dbias`` 1."""
    each = 2 + 7 * needs_grad(x) + _is_tensor(weight) * needs_grad(x) + 2 * needs_grad(weight) + needs_grad(bias)
    return Cost(0, x.numel() * each)


def rms_norm(_out: object, x: Tensor, weight: Any = None, /, *_: object) -> Cost:
    """``out = x * rsqrt(mean(x * x)) * weight``: 4 for each element, 3 without weight."""
    return Cost(0, x.numel() * (3 + _is_tensor(weight)))


def rms_norm_backward(_out: object, x: Tensor, weight: Any = None, /, *_: object) -> Cost:
    """As ``_fused_rms_norm_backward``: ``xhat`` 1, ``dx`` 5 and 1 for the weight, ``dweight`` 2."""
    each = 1 + 5 * needs_grad(x) + _is_tensor(weight) * needs_grad(x) + 2 * needs_grad(weight)
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
        return args[4], 2 * _is_gate(args) if args[2] is None or _is_gate(args) else _is_tensor(args[0])
    require(len(args) in {11, 14, 15}, "the arguments of LayerNormFn", args)
    residual, second, *_, dropout = args[:6]
    require(second is None and args[6] is None, "one norm, and no scale of rows", second)
    return args[9 if len(args) == 11 else 10], _is_tensor(residual) + 2 * (dropout > 0)


def _is_gate(args: tuple[Any, ...]) -> bool:
    """Tell whether the class is the gated one, and has a gate."""
    return len(args) == 5 and not isinstance(args[2], bool) and _is_tensor(args[0])


_APEX_NORMS = "FusedLayerNormAffineFunction FusedLayerNormAffineMixedDtypesFunction FusedLayerNormFunction"
_APEX_RMS = "FusedRMSNormAffineFunction FusedRMSNormAffineMixedDtypesFunction FusedRMSNormFunction"
_pair("norm", f"{_APEX_NORMS} FastLayerNormFN LigerLayerNormFunction", layer_norm, layer_norm_backward)
_pair("norm", f"{_APEX_RMS} LigerRMSNormFunction", rms_norm, rms_norm_backward)
_pair("norm", "LigerFusedAddRMSNormFunction", add_rms_norm, add_rms_norm_backward)
_pair("norm", "LayerNormFn", triton_norm, triton_norm_backward)
_pair("norm", "LigerGroupNormFunction SyncBatchNormFunction", group_norm, norm_backward)


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
    return Cost(0, out.numel() * (6 + _is_tensor(mask)))


def causal_softmax(out: Tensor, /, *_: object) -> Cost:
    """``softmax(scale * x + mask)``, the mask known: seven operations for each element, masked ones included."""
    return Cost(0, 7 * out.numel())


def scaled_softmax_backward(out: Tensor, /, *_: object) -> Cost:
    """``scale * y * (g - sum(g * y))``: five operations for each element."""
    return Cost(0, 5 * out.numel())


_pair("reduction", "LigerSoftmaxFunction", softmax, softmax_backward)
_pair("reduction", "ScaledSoftmax", scaled_softmax, scaled_softmax_backward)
_pair("reduction", "ScaledMaskedSoftmax GenericScaledMaskedSoftmax", masked_softmax, scaled_softmax_backward)
_pair("reduction", "ScaledUpperTriangMaskedSoftmax", causal_softmax, scaled_softmax_backward)


def gated(out: Tensor, /, *_: object) -> Cost:
    """``out = activation(a) * b``: two operations for each element."""
    return Cost(0, 2 * out.numel())


def gated_backward(out: Tensor, /, *_: object) -> Cost:
    """``db = g * activation(a)``, computed anew; ``da = g * b * activation'(a)``: two and three for each element."""
    return Cost(0, 5 * out.numel())


def rotary(_out: object, q: Tensor, k: Tensor, /, *_: object) -> Cost:
    """``out = x * cos + turned(x) * sin`` for ``q`` and ``k``: three operations for each element."""
    return Cost(0, 3 * (q.numel() + k.numel()))


def rotary_backward(_out: object, q: Tensor, k: Tensor, /, *_: object) -> Cost:
    """The same turn backwards."""
    return Cost(0, 3 * (q.numel() * needs_grad(q) + k.numel() * needs_grad(k)))


def rotary_one(_out: object, x: Tensor, cos: Tensor, /, *_: object) -> Cost:
    """``out = x * cos + turned(x) * sin`` of each head's first dimensions: three operations for each of these.

    ``cos`` and ``sin`` are half as long as what they turn.
    """
    return Cost(0, 3 * (x.numel() // x.shape[-1]) * 2 * cos.shape[-1])


def rotary_packed(_out: object, x: Tensor, cos: Tensor, /, *_: object) -> Cost:
    """The same for ``q`` and ``k`` of ``(b, l, 3, h, e)``, or for ``k`` of ``(b, l, 2, h, e)``."""
    require(x.dim() == 5 and x.shape[2] in {2, 3}, "q, k and v packed as (b, l, 3, h, e)", x)
    turned = x.numel() // x.shape[2] * (x.shape[2] - 1)
    return Cost(0, 3 * (turned // x.shape[-1]) * 2 * cos.shape[-1])


def dynamic_tanh(out: Tensor, _x: Tensor, _alpha: Tensor, _gamma: Tensor, beta: Any = None, /) -> Cost:
    """``out = gamma * tanh(alpha * x) + beta``: four operations for each element, three without ``beta``."""
    return Cost(0, out.numel() * (3 + _is_tensor(beta)))


def dynamic_tanh_backward(out: Tensor, _x: Tensor, _alpha: Tensor, _gamma: Tensor, beta: Any = None, /) -> Cost:
    """``t`` anew (2), ``dgamma`` 2, ``dbeta`` 1, ``g * gamma * (1 - t * t)`` 4, ``dalpha`` 2 and ``dx`` 1."""
    return Cost(0, out.numel() * (11 + _is_tensor(beta)))


def squared_relu(out: Tensor, /, *_: object) -> Cost:
    """``out = relu(x) ** 2``: two operations for each element."""
    return Cost(0, 2 * out.numel())


_pair("elementwise", "LigerSiLUMulFunction LigerGELUMulFunction", gated, gated_backward)
_pair("elementwise", "LigerRopeFunction", rotary, rotary_backward)
_pair("elementwise", "ApplyRotaryEmb RotaryEmbeddingFunction", rotary_one, rotary_one)
_pair("elementwise", "ApplyRotaryEmbQKV_ ApplyRotaryEmbKV_", rotary_packed, rotary_packed)
_pair("elementwise", "LigerDyTFunction", dynamic_tanh, dynamic_tanh_backward)
_pair("elementwise", "LigerReLUSquaredFunction", squared_relu, squared_relu)


def biased_activation(out: Tensor, _x: Tensor, bias: Any, /, *_: object) -> Cost:
    """``out = activation(x + bias) * scale``: three operations for each element, two without a bias."""
    return Cost(0, out.numel() * (2 + (scalars(bias) > 0)))


def biased_activation_backward(out: Any, _x: Tensor, bias: Any, /, *_: object) -> Cost:
    """``dx = g * activation'(y) * scale``, three for each element; one more to sum up for the bias.

    mmcv and StyleGAN 2 have a function of that name, too, which returns both gradients.
    """
    first = out[0] if isinstance(out, tuple) else out
    return Cost(0, first.numel() * (3 + (isinstance(out, tuple) or needs_grad(bias))))


def _class_operations(function: type) -> int:
    """Count what a class was made for: an activation, a gain, and a limit; without options the first two."""
    options = options_of(function)
    spec = options.get("spec")
    is_linear = options.get("act") == "linear" or (spec is not None and spec.cuda_idx == 1)
    limit = options.get("clamp")
    return int(not is_linear) + int(options.get("gain") != 1) + int(limit is not None and limit >= 0)


@ByClass
def class_activation(function: type, out: Tensor, _x: Tensor, bias: Any, /) -> Cost:
    """``out = limit(activation(x + bias) * gain)``: one operation for each part that the class was made for."""
    return Cost(0, out.numel() * (_class_operations(function) + (scalars(bias) > 0)))


@ByClass
def class_activation_backward(function: type, out: Tensor, _x: Tensor, bias: Any, /) -> Cost:
    """``dx = g * activation'(y) * gain``, zero beyond the limit: one more than forward; a sum for the bias."""
    each = _class_operations(function)
    return Cost(0, out.numel() * (each + (each > 0) + needs_grad(bias)))


@ByClass
def activation_gradient(function: type, out: Tensor, /, *_: object) -> Cost:
    """``dx = g * activation'(y) * gain``, zero beyond the limit: one more than forward."""
    each = _class_operations(function)
    return Cost(0, out.numel() * (each + (each > 0)))


_BIASED = "FusedBiasLeakyReLUFunction FusedLeakyReLUFunction"
_pair("elementwise", _BIASED, biased_activation, biased_activation_backward)
_pair("elementwise", "BiasActCuda", class_activation, class_activation_backward)
register("elementwise", activation_gradient, _names("BiasActCudaGrad"))


def sigmoid_focal_loss(out: Tensor, x: Tensor, _target: Tensor, /, *args: Any) -> Cost:
    """``t * alpha * (1 - p) ** gamma * log(p) + (1 - t) * (1 - alpha) * p ** gamma * log(1 - p)``: 12 for each element.

    A sigmoid, ``1 - p``, and for both terms a power, a logarithm and two products; a comparison, and a sum. One more
    for a weight, one to reduce. RetinaNet (arXiv 1708.02002).
    """
    weight, reduced, _ = _weight_and_reduction(out, args)
    return Cost(0, x.numel() * (12 + weight + reduced))


def sigmoid_focal_loss_backward(out: Tensor, x: Tensor, _target: Tensor, /, *args: Any) -> Cost:
    """``(1 - p) ** gamma * (1 - p - gamma * p * log(p))`` and its mirror image: 19 for each element.

    A sigmoid, ``1 - p``, and for both terms a power, a logarithm, four products and a difference; a comparison, a sum,
    and the incoming gradient. One more for a weight, one for a mean.
    """
    weight, _, mean = _weight_and_reduction(out, args)
    return Cost(0, x.numel() * (19 + weight + mean))


def softmax_focal_loss(out: Tensor, x: Tensor, target: Tensor, /, *args: Any) -> Cost:
    """``-alpha * (1 - p) ** gamma * log(p)`` of the target's softmax: 5 for each element, 5 for each target."""
    weight, reduced, _ = _weight_and_reduction(out, args)
    return Cost(0, 5 * x.numel() + target.numel() * (5 + weight + reduced))


def softmax_focal_loss_backward(out: Tensor, x: Tensor, target: Tensor, /, *args: Any) -> Cost:
    """``g * c * (t - p)``: a difference and two products for each element, and ``c`` of nine for each target."""
    weight, _, mean = _weight_and_reduction(out, args)
    return Cost(0, x.numel() * (3 + mean) + target.numel() * (9 + weight))


_pair("loss", "SigmoidFocalLossFunction _SigmoidFocalLoss", sigmoid_focal_loss, sigmoid_focal_loss_backward)
_pair("loss", "SoftmaxFocalLossFunction", softmax_focal_loss, softmax_focal_loss_backward)


_SOFTMAX_GRADIENT = 4


def cross_entropy(_out: object, x: Tensor, _target: Tensor, /, *_: object) -> Cost:
    """``logsumexp(x) - x[target]``, 4 for each element; and at once its gradient ``softmax(x) / n``, 4 more.

    Liger's kernel writes the gradient over ``x`` in the forward pass, when one will be wanted.
    """
    return Cost(0, x.numel() * (4 + _SOFTMAX_GRADIENT * needs_grad(x)))


def scaled_gradient(_out: object, x: Tensor, /, *_: object) -> Cost:
    """The gradient of the forward pass, times the incoming one."""
    return Cost(0, x.numel())


def linear_cross_entropy(
    _out: object, x: Tensor, weight: Tensor, _target: Tensor, bias: Any = None, /, *_: Any
) -> Cost:
    """``cross_entropy(x @ weight.T + bias)``: the product, and at once those of the gradients that will be wanted.

    For each logit one for a bias, 4 forward and 4 for its gradient.
    """
    require(x.dim() == weight.dim() == 2 and x.shape[1] == weight.shape[1], "x of (n, h) and a weight of (v, h)", x)
    logits = x.shape[0] * weight.shape[0]
    grads = needs_grad(x) + needs_grad(weight)
    each = 4 + _is_tensor(bias) + (_SOFTMAX_GRADIENT if grads else 0) + needs_grad(bias)
    return Cost(logits * x.shape[1] * (1 + grads), logits * each, logits)


def linear_cross_entropy_backward(_out: object, x: Tensor, weight: Tensor, /, *_: Any) -> Cost:
    """The gradients of the forward pass, times the incoming one."""
    return Cost(0, x.numel() * needs_grad(x) + weight.numel() * needs_grad(weight))


_pair("loss", "LigerCrossEntropyFunction", cross_entropy, scaled_gradient)
_pair("loss", "LigerFusedLinearCrossEntropyFunction", linear_cross_entropy, linear_cross_entropy_backward)


def _weight_and_reduction(out: Tensor, args: tuple[Any, ...]) -> tuple[bool, bool, bool]:
    """Tell whether a loss has a weight, is reduced, and is a mean; behind gamma and alpha."""
    reduced = out.dim() == 0
    return len(args) > 2 and _is_tensor(args[2]), reduced, reduced and (len(args) < 4 or args[3] == "mean")


def _is_tensor(arg: object) -> bool:
    return scalars(arg) > 0
