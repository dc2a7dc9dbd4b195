"""Pooling: one operation for each element that a window reads.

An adaptive average pooling counts the elements of its input, whether or not windows overlap: the figure that fvcore and
mmengine publish. Gradients are scattered: one addition for each value that is sent back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _window(kernel: Sequence[int], rank: int) -> int:
    """Return the elements of a window; a single number stands for every dimension."""
    n = 1
    for size in kernel:
        n *= size
    return n if len(kernel) == rank else n**rank


@formula(aten._adaptive_avg_pool2d, aten.mkldnn_adaptive_avg_pool2d, aten._adaptive_avg_pool3d)
@formula(aten.adaptive_max_pool2d, aten.adaptive_max_pool3d)
def adaptive_pool(self: Tensor) -> Cost:
    """``out[p] = mean(x[window p])`` or ``max``: one operation for each element of the input."""
    return Cost(0, self.numel())


def is_global_pool(self: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False) -> bool:
    """Return whether a mean is the literal form in which ``adaptive_avg_pool2d(x, 1)`` arrives.

    So does ``adaptive_avg_pool1d``, on rows of height 1, and is a reduction: the published tables leave it out.
    """
    return keepdim and dim is not None and list(dim) == [-1, -2] and self.dim() == 4 and not is_row(self)


def is_row(x: Tensor) -> bool:
    """Return whether a map is one row of several elements, as 1-D pooling hands them to 2-D operators."""
    return x.shape[-2] == 1 != x.shape[-1]


@formula(aten.mean, when=is_global_pool)
def global_pool(self: Tensor) -> Cost:
    """``out = mean(x[n, c, h, w] for h, w)``: an ``adaptive_avg_pool2d`` to one element; one for each input element."""
    return Cost(0, self.numel())


@formula(aten.avg_pool2d, aten.mkldnn_max_pool2d, aten.max_pool2d)
def pool2d(out: Tensor, kernel_size: Sequence[int]) -> Cost:
    """``out[p] = mean(x[window p])`` or ``max``: each output reads one window."""
    return Cost(0, out.numel() * _window(kernel_size, 2))


@formula(aten.avg_pool3d, aten.mkldnn_max_pool3d, aten.max_pool3d)
def pool3d(out: Tensor, kernel_size: Sequence[int]) -> Cost:
    """``out[p] = mean(x[window p])`` or ``max``: each output reads one window."""
    return Cost(0, out.numel() * _window(kernel_size, 3))


@formula(aten.max_pool2d_with_indices, aten.fractional_max_pool2d)
def max_pool2d(out: tuple[Tensor, Tensor], kernel_size: Sequence[int]) -> Cost:
    """``out[p] = max(x[window p])``: each output reads one window."""
    return Cost(0, out[0].numel() * _window(kernel_size, 2))


@formula(aten.max_pool3d_with_indices, aten.fractional_max_pool3d)
def max_pool3d(out: tuple[Tensor, Tensor], kernel_size: Sequence[int]) -> Cost:
    """``out[p] = max(x[window p])``: each output reads one window."""
    return Cost(0, out[0].numel() * _window(kernel_size, 3))


@formula(aten._adaptive_avg_pool2d_backward, aten.mkldnn_adaptive_avg_pool2d_backward)
@formula(aten._adaptive_avg_pool3d_backward, aten.adaptive_avg_pool3d_backward)
def adaptive_avg_pool_backward(self: Tensor) -> Cost:
    """``dx[window p] += dy[p] / n``: one for each element of the input, as forward."""
    return Cost(0, self.numel())


@formula(aten.avg_pool2d_backward)
def avg_pool2d_backward(grad_output: Tensor, kernel_size: Sequence[int]) -> Cost:
    """``dx[window p] += dy[p] / n``: each gradient writes one window."""
    return Cost(0, grad_output.numel() * _window(kernel_size, 2))


@formula(aten.avg_pool3d_backward)
def avg_pool3d_backward(grad_output: Tensor, kernel_size: Sequence[int]) -> Cost:
    """``dx[window p] += dy[p] / n``: each gradient writes one window."""
    return Cost(0, grad_output.numel() * _window(kernel_size, 3))


@formula(aten.max_pool2d_with_indices_backward, aten.max_pool3d_with_indices_backward, aten.max_pool2d_backward)
@formula(aten.mkldnn_max_pool2d_backward, aten.mkldnn_max_pool3d_backward)
@formula(aten.adaptive_max_pool2d_backward, aten.adaptive_max_pool3d_backward)
@formula(aten.fractional_max_pool2d_backward, aten.fractional_max_pool3d_backward)
def max_pool_backward(grad_output: Tensor) -> Cost:
    """``dx[argmax p] += dy[p]``: one addition for each gradient."""
    return Cost(0, grad_output.numel())
