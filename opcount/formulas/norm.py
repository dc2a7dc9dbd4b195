"""Normalisation: a few operations for each element; what is done once a channel or once a row is neglected.

The forward figures are those that fvcore and mmengine publish: in training 4 for each element (mean, variance, and the
two of ``(x - mean) * rstd``) and 1 more with a weight and bias; in evaluation a batch norm is one multiply-add, counted
as 1, or 2 with a weight. The backward figures count the textbook expressions in the docstrings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _training(x: Tensor, weight: Tensor | None) -> Cost:
    return Cost(0, x.numel() * (4 if weight is None else 5))


def _evaluation(x: Tensor, weight: Tensor | None) -> Cost:
    return Cost(0, x.numel() * (1 if weight is None else 2))


@formula(aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_functional)
@formula(aten._native_batch_norm_legit + ".no_stats", aten._native_batch_norm_legit + ".no_stats_out")
@formula(aten.cudnn_batch_norm, aten.miopen_batch_norm)
def batch_norm(input: Tensor, weight: Tensor | None, training: bool) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: training 5 for each element, 4 without weight; evaluation 2 or 1.

    Training is what the call says. An instance norm is a batch norm in training.
    """
    return _training(input, weight) if training else _evaluation(input, weight)


@formula(aten._batch_norm_with_update, aten._batch_norm_with_update_functional)
@formula(aten.native_group_norm)
def normalize(input: Tensor, weight: Tensor | None) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: 5 for each element, 4 without weight."""
    return _training(input, weight)


@formula(aten._batch_norm_no_update, aten._native_batch_norm_legit_no_training)
def batch_norm_evaluation(input: Tensor, weight: Tensor | None) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``, with known statistics: 2 for each element, 1 without weight."""
    return _evaluation(input, weight)


@formula(aten.native_layer_norm)
def layer_norm(input: Tensor, weight: Tensor | None) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: 5 for each element, 4 without weight."""
    return _training(input, weight)


@formula(aten._fused_rms_norm)
def rms_norm(input: Tensor, weight: Tensor | None) -> Cost:
    """``out = x * rsqrt(mean(x * x)) * weight``: 4 for each element, 3 without weight."""
    return Cost(0, input.numel() * (3 if weight is None else 4))


@formula(aten.batch_norm_stats, aten.batch_norm_update_stats)
def batch_norm_stats(input: Tensor) -> Cost:
    """``mean = sum(x) / n``, ``var = sum((x - mean) ** 2) / n``: 3 for each element.

    With `batch_norm_elemt` that is what a batch norm in training costs.
    """
    return Cost(0, 3 * input.numel())


@formula(aten.batch_norm_elemt)
def batch_norm_elemt(input: Tensor, weight: Tensor | None) -> Cost:
    """``out = (x - mean) * rstd * weight + bias``: as in evaluation, 2 for each element, 1 without weight."""
    return _evaluation(input, weight)


@formula(aten.batch_norm_gather_stats, aten.batch_norm_gather_stats_with_counts)
def batch_norm_gather_stats(mean: Tensor) -> Cost:
    """``n += m``, ``delta = mean[i] - mean``, ``mean += delta * m / n``, ``m2 += delta ** 2 * ...`` for each replica.

    About 10 for each mean that is gathered, whatever the size of ``x``.
    """
    return Cost(0, 10 * mean.numel())


def _backward(numel: int, mask: Sequence[bool], training: bool = True) -> Cost:
    """Price the sums ``dy`` (1) and ``dy * (x - mean) * rstd`` (4), where needed, and then ``dx``.

    ``dx = scale * (dy - mean_dy - xhat * mean_dy_xhat)`` is 4, ``dx = scale * dy`` in evaluation is 1.
    """
    sums = training and mask[0]
    each = 4 * (mask[1] or sums) + (mask[2] or sums) + mask[0] * (4 if training else 1)
    return Cost(0, numel * each)


@formula(aten.native_batch_norm_backward)
def batch_norm_backward(grad_out: Tensor, train: bool, output_mask: Sequence[bool]) -> Cost:
    """``dbias = sum(dy)``, ``dweight = sum(dy * xhat)``, ``dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat))``.

    ``xhat = (x - mean) * rstd``. For each element 9 in training, 6 in evaluation, where ``dx = scale * dy``; less when
    the mask asks for less.
    """
    return _backward(grad_out.numel(), output_mask, train)


@formula(aten.batch_norm_backward)
def updated_batch_norm_backward(grad_out: Tensor, update: bool, output_mask: Sequence[bool]) -> Cost:
    """As `native_batch_norm_backward`, where ``update`` says that the forward was one in training."""
    return _backward(grad_out.numel(), output_mask, update)


@formula(aten.cudnn_batch_norm_backward, aten.miopen_batch_norm_backward)
def batch_norm_backward_whole(input: Tensor) -> Cost:
    """All three gradients of a batch norm in training: 9 for each element."""
    return Cost(0, 9 * input.numel())


@formula(aten.batch_norm_backward_reduce)
def batch_norm_backward_reduce(grad_out: Tensor) -> Cost:
    """``sum(dy)`` and ``sum(dy * (x - mean))``, with ``rstd``: 5 for each element."""
    return Cost(0, 5 * grad_out.numel())


@formula(aten.batch_norm_backward_elemt)
def batch_norm_backward_elemt(grad_out: Tensor) -> Cost:
    """``dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat))`` with the means known: 4 for each element."""
    return Cost(0, 4 * grad_out.numel())


@formula(aten.native_group_norm_backward)
def group_norm_backward(grad_out: Tensor, output_mask: Sequence[bool]) -> Cost:
    """As a batch norm's: sums over a channel (5 for each element) serve weight, bias and input; ``dx`` is 4 more."""
    return _backward(grad_out.numel(), output_mask)


@formula(aten.native_layer_norm_backward)
def layer_norm_backward(grad_out: Tensor, weight: Tensor | None, output_mask: Sequence[bool]) -> Cost:
    """``dx = rstd * (g - mean(g) - xhat * mean(g * xhat))`` with ``g = dy * weight``; ``sum(dy * xhat)``; ``sum(dy)``.

    For each element: ``xhat`` 2, ``dx`` 7 and 1 for the weight, ``dweight`` 2, ``dbias`` 1.
    """
    each = (
        2 * (output_mask[0] or output_mask[1])
        + 2 * output_mask[1]
        + output_mask[2]
        + output_mask[0] * (7 if weight is None else 8)
    )
    return Cost(0, grad_out.numel() * each)


@formula(aten._fused_rms_norm_backward)
def rms_norm_backward(grad_out: Tensor, weight: Tensor | None, output_mask: Sequence[bool]) -> Cost:
    """``dx = rstd * (g - xhat * mean(g * xhat))`` with ``g = dy * weight``; ``dweight = sum(dy * xhat)``.

    For each element: ``xhat`` 1, ``dx`` 5 and 1 for the weight, ``dweight`` 2.
    """
    each = (output_mask[0] or output_mask[1]) + 2 * output_mask[1] + output_mask[0] * (5 if weight is None else 6)
    return Cost(0, grad_out.numel() * each)
