"""Gates, rotary embeddings and biased activations of fused kernels: as the operators that they stand for.

An activation takes one operation for each element, and its backward two; see `elementwise`.

Sources: Liger-Kernel 0.4 to 0.8 (``liger_kernel/ops``); flash-attn 2 (``layers/rotary.py``), fla (``modules/rotary``);
mmcv 1.0 to 2.2 (``fused_bias_leakyrelu.py``, ``bias_act.py``); rosinality/stylegan2-pytorch (``op/fused_act.py``);
NVlabs/stylegan3 (``torch_utils/ops/bias_act.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, options_of, require
from opcount.formulas.sizes import is_tensor, register, register_function, scalars
from opcount.registry import ByClass

if TYPE_CHECKING:
    from torch import Tensor


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
    return Cost(0, out.numel() * (3 + is_tensor(beta)))


def dynamic_tanh_backward(out: Tensor, _x: Tensor, _alpha: Tensor, _gamma: Tensor, beta: Any = None, /) -> Cost:
    """``t`` anew (2), ``dgamma`` 2, ``dbeta`` 1, ``g * gamma * (1 - t * t)`` 4, ``dalpha`` 2 and ``dx`` 1."""
    return Cost(0, out.numel() * (11 + is_tensor(beta)))


def squared_relu(out: Tensor, /, *_: object) -> Cost:
    """``out = relu(x) ** 2``: two operations for each element."""
    return Cost(0, 2 * out.numel())


register_function("elementwise", "LigerSiLUMulFunction LigerGELUMulFunction", gated, gated_backward)
register_function("elementwise", "LigerRopeFunction", rotary, rotary_backward)
register_function("elementwise", "ApplyRotaryEmb RotaryEmbeddingFunction", rotary_one, rotary_one)
register_function("elementwise", "ApplyRotaryEmbQKV_ ApplyRotaryEmbKV_", rotary_packed, rotary_packed)
register_function("elementwise", "LigerDyTFunction", dynamic_tanh, dynamic_tanh_backward)
register_function("elementwise", "LigerReLUSquaredFunction", squared_relu, squared_relu)


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
register_function("elementwise", _BIASED, biased_activation, biased_activation_backward)
register_function("elementwise", "BiasActCuda", class_activation, class_activation_backward)
register("elementwise", activation_gradient, ["autograd.BiasActCudaGrad"])
