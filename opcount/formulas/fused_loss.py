"""Losses of fused kernels: focal losses of detectors, and Liger's that make their gradients in the forward pass.

Sources: mmcv 1.0 to 2.2 (``focal_loss.py``), mmdetection 1, maskrcnn-benchmark; Liger-Kernel 0.4 to 0.8
(``ops/cross_entropy.py``, ``ops/fused_linear_cross_entropy.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, require
from opcount.formulas.sizes import is_tensor, register_function

if TYPE_CHECKING:
    from torch import Tensor


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


register_function("loss", "SigmoidFocalLossFunction _SigmoidFocalLoss", sigmoid_focal_loss, sigmoid_focal_loss_backward)
register_function("loss", "SoftmaxFocalLossFunction", softmax_focal_loss, softmax_focal_loss_backward)


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
    each = 4 + is_tensor(bias) + (_SOFTMAX_GRADIENT if grads else 0) + needs_grad(bias)
    return Cost(logits * x.shape[1] * (1 + grads), logits * each, logits)


def linear_cross_entropy_backward(_out: object, x: Tensor, weight: Tensor, /, *_: Any) -> Cost:
    """The gradients of the forward pass, times the incoming one."""
    return Cost(0, x.numel() * needs_grad(x) + weight.numel() * needs_grad(weight))


register_function("loss", "LigerCrossEntropyFunction", cross_entropy, scaled_gradient)
register_function("loss", "LigerFusedLinearCrossEntropyFunction", linear_cross_entropy, linear_cross_entropy_backward)


def _weight_and_reduction(out: Tensor, args: tuple[Any, ...]) -> tuple[bool, bool, bool]:
    """Return whether a loss has a weight, is reduced, and is a mean; behind gamma and alpha."""
    reduced = out.dim() == 0
    return len(args) > 2 and is_tensor(args[2]), reduced, reduced and (len(args) < 4 or args[3] == "mean")
