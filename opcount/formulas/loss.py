"""Losses: what each element costs, and one addition for each where the result is a sum or a mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.formulas.sizes import per_output, register
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

_NONE = 0
_MEAN = 1


@formula(aten.mse_loss)
def mse_loss(self: Tensor, reduction: int) -> Cost:
    """``(x - target) ** 2``: two operations for each element, one more to reduce."""
    return Cost(0, self.numel() * (2 + (reduction != _NONE)), 0)


@formula(aten.smooth_l1_loss, aten.huber_loss)
def huber_loss(self: Tensor, reduction: int) -> Cost:
    """``d = abs(x - target); d < beta ? d * d / (2 * beta) : d - beta / 2``: five operations, one more to reduce."""
    return Cost(0, self.numel() * (5 + (reduction != _NONE)), 0)


@formula(aten.soft_margin_loss)
def soft_margin_loss(self: Tensor, reduction: int) -> Cost:
    """``log1p(exp(-x * target))``: a negation, a product, two transcendentals, one more to reduce."""
    return Cost(0, self.numel() * (4 + (reduction != _NONE)), 0)


@formula(aten.binary_cross_entropy)
def binary_cross_entropy(self: Tensor, weight: Tensor | None, reduction: int) -> Cost:
    """``-(t * log(x) + (1 - t) * log(1 - x))``: eight operations, one more for a weight, one more to reduce."""
    return Cost(0, self.numel() * (8 + (weight is not None) + (reduction != _NONE)), 0)


@formula(aten.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(
    self: Tensor, weight: Tensor | None, pos_weight: Tensor | None, reduction: int
) -> Cost:
    """``(1 - t) * x - log_sigmoid(x)``: four operations, one more for a weight, one more to reduce.

    A weight of the positives makes it ``(1 - t) * x - (1 + (p - 1) * t) * log_sigmoid(x)``: four more.
    """
    return Cost(0, self.numel() * (4 + 4 * (pos_weight is not None) + (weight is not None) + (reduction != _NONE)), 0)


@formula(aten.nll_loss_forward, aten.nll_loss2d_forward)
def nll_loss(target: Tensor, weight: Tensor | None, reduction: int) -> Cost:
    """``-w[target] * x[target]``: a negation for each target, a product for a weight, one more to reduce."""
    return Cost(0, target.numel() * (1 + (weight is not None) + (reduction != _NONE)), 0)


@formula(aten.nll_loss_backward, aten.nll_loss2d_backward)
def nll_loss_backward(target: Tensor) -> Cost:
    """``-w[target] * grad``, divided by the total weight: three operations for each target."""
    return Cost(0, 3 * target.numel(), 0)


@formula(aten.multi_margin_loss, aten.multilabel_margin_loss_forward)
def margin_loss(self: Tensor) -> Cost:
    """``sum(max(0, margin - x[target] + x[i]) for i)``: four operations for each class.

    The targets of a multi-label row are known to the data alone: one is counted, which is a lower bound.
    """
    return Cost(0, 4 * self.numel(), 0)


_FORWARD_STATE = 13
_BACKWARD_STATE = 15


@formula(aten._ctc_loss)
def ctc_loss(out: tuple[Tensor, Tensor]) -> Cost:
    """Each state of each step is the logarithm of a sum of three exponentials, plus a log-probability: 13 operations.

    Two comparisons, three subtractions, three exponentials, two additions, a logarithm, and two additions.
    """
    return Cost(0, _FORWARD_STATE * out[1].numel(), 0)


@formula(aten._ctc_loss_backward)
def ctc_loss_backward(log_probs: Tensor, log_alpha: Tensor) -> Cost:
    """The forward's recursion from the other end, merged with it state by state; then a softmax's gradient."""
    return Cost(0, _BACKWARD_STATE * log_alpha.numel() + 3 * log_probs.numel(), 0)


@formula(aten._cudnn_ctc_loss, aten.miopen_ctc_loss)
def cudnn_ctc_loss(log_probs: Tensor, targets: Tensor) -> Cost:
    """Forward and backward at once: at each step, ``2 l + 1`` states for a target of length ``l``."""
    steps, batch = log_probs.shape[0], log_probs.shape[1] if log_probs.dim() == 3 else 1
    states = steps * (2 * targets.numel() + batch)
    return Cost(0, (_FORWARD_STATE + _BACKWARD_STATE) * states + 3 * log_probs.numel(), 0)


_BACKWARD = {
    3: "mse_loss_backward multi_margin_loss_backward multilabel_margin_loss_backward",
    4: "smooth_l1_loss_backward huber_loss_backward",
    5: "binary_cross_entropy_backward soft_margin_loss_backward",
}
"""Operations for each gradient.

``g * c * (x - t)``; the same with a comparison; ``g * (x - t) / (x * (1 - x))``.
"""

for _times, _names in _BACKWARD.items():
    register("loss", per_output(_times), [f"aten.{name}" for name in _names.split()])
