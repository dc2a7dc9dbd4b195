"""Resampling: one operation for each input element that an output element blends.

Nearest reads 1, linear 2, bilinear 4, trilinear 8, bicubic 16; the weights themselves are neglected. Antialiasing works
one dimension after the other, and its filter grows with the reduction. Gradients go the same ways back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@formula(aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d)
@formula(aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d, aten._upsample_nearest_exact3d)
def nearest(out: Tensor) -> Cost:
    """``out[p] = x[nearest p]``: the published figure is 1 for each output element, though it only copies."""
    return Cost(0, out.numel())


@formula(aten.upsample_linear1d)
def linear(out: Tensor) -> Cost:
    """``out[p] = sum(weight[q] * x[q] for the 2 neighbours q of p)``."""
    return Cost(0, 2 * out.numel())


@formula(aten.upsample_bilinear2d, aten.grid_sampler_2d, aten.grid_sampler_3d)
@formula(aten._grid_sampler_2d_cpu_fallback, aten.cudnn_grid_sampler)
def bilinear(out: Tensor) -> Cost:
    """``out[p] = sum(weight[q] * x[q] for the 4 neighbours q of p)``.

    A grid sampler counts 4 in every mode and rank: the figure that fvcore and mmengine publish.
    """
    return Cost(0, 4 * out.numel())


@formula(aten.upsample_trilinear3d)
def trilinear(out: Tensor) -> Cost:
    """``out[p] = sum(weight[q] * x[q] for the 8 neighbours q of p)``."""
    return Cost(0, 8 * out.numel())


@formula(aten.upsample_bicubic2d)
def bicubic(out: Tensor) -> Cost:
    """``out[p] = sum(weight[q] * x[q] for the 16 neighbours q of p)``."""
    return Cost(0, 16 * out.numel())


@formula(aten.upsample_nearest1d_backward, aten.upsample_nearest2d_backward, aten.upsample_nearest3d_backward)
@formula(aten._upsample_nearest_exact1d_backward, aten._upsample_nearest_exact2d_backward)
@formula(aten._upsample_nearest_exact3d_backward)
def nearest_backward(grad_output: Tensor) -> Cost:
    """``dx[nearest p] += dy[p]``."""
    return Cost(0, grad_output.numel())


@formula(aten.upsample_linear1d_backward)
def linear_backward(grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]`` for 2 neighbours."""
    return Cost(0, 2 * grad_output.numel())


@formula(aten.upsample_bilinear2d_backward)
def bilinear_backward(grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]`` for 4 neighbours."""
    return Cost(0, 4 * grad_output.numel())


@formula(aten.upsample_trilinear3d_backward)
def trilinear_backward(grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]`` for 8 neighbours."""
    return Cost(0, 8 * grad_output.numel())


@formula(aten.upsample_bicubic2d_backward)
def bicubic_backward(grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]`` for 16 neighbours."""
    return Cost(0, 16 * grad_output.numel())


def _antialiased(numel: int, from_size: Sequence[int], to_size: Sequence[int], radius: int) -> Cost:
    """Price a pass over the width, ``(h_in, w_out)``, and one over the height, ``(h_out, w_out)``.

    A filter of that radius covers ``2 * radius`` input elements for each output element, times the reduction.
    """
    (h_in, w_in), (h, w) = from_size[-2:], to_size[-2:]
    planes = numel // (h * w or 1)
    width = planes * h_in * 2 * radius * max(w, w_in)
    height = planes * w * 2 * radius * max(h, h_in)
    return Cost(0, width + height)


@formula(aten._upsample_bilinear2d_aa)
def bilinear_aa(out: Tensor, x: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[p] = sum(weight[q] * x[q])``, along the width and then along the height, with a triangle of radius 1."""
    return _antialiased(out.numel(), x.shape, out.shape, 1)


@formula(aten._upsample_bicubic2d_aa)
def bicubic_aa(out: Tensor, x: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[p] = sum(weight[q] * x[q])``, along the width and then along the height, with a cubic of radius 2."""
    return _antialiased(out.numel(), x.shape, out.shape, 2)


@formula(aten._upsample_lanczos2d_aa)
def lanczos_aa(out: Tensor, x: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[p] = sum(weight[q] * x[q])``, along the width and then along the height, with a sinc of radius 3."""
    return _antialiased(out.numel(), x.shape, out.shape, 3)


@formula(aten._upsample_bilinear2d_aa_backward)
def bilinear_aa_backward(out: Tensor, grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]``, along one dimension after the other."""
    return _antialiased(grad_output.numel(), out.shape, grad_output.shape, 1)


@formula(aten._upsample_bicubic2d_aa_backward)
def bicubic_aa_backward(out: Tensor, grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]``, along one dimension after the other."""
    return _antialiased(grad_output.numel(), out.shape, grad_output.shape, 2)


@formula(aten._upsample_lanczos2d_aa_backward)
def lanczos_aa_backward(out: Tensor, grad_output: Tensor) -> Cost:
    """``dx[q] += weight[q] * dy[p]``, along one dimension after the other."""
    return _antialiased(grad_output.numel(), out.shape, grad_output.shape, 3)


@formula(aten.grid_sampler_2d_backward, aten.grid_sampler_3d_backward)
def grid_sampler_backward(grad_output: Tensor, grid: Tensor, output_mask: Sequence[bool]) -> Cost:
    """``dx[q] += weight[q] * dy[p]``; ``dgrid[p, axis] = sum(dy[p] * x[q] * slope[q, axis])``.

    As forward 4 for each element of ``dy``, and 4 more for each axis of the grid.
    """
    return Cost(0, 4 * grad_output.numel() * (output_mask[0] + output_mask[1] * grid.shape[-1]))


@formula(aten._grid_sampler_2d_cpu_fallback_backward)
def grid_sampler_fallback_backward(grad_output: Tensor) -> Cost:
    """As `grid_sampler_backward`: 4 for each element of ``dy``, and 4 more for each of two axes."""
    return Cost(0, 12 * grad_output.numel())


@formula(aten.cudnn_grid_sampler_backward)
def cudnn_grid_sampler_backward(grad_output: Tensor) -> Cost:
    """As `grid_sampler_backward`: 4 for each element of ``dy``, and 4 more for each of two axes."""
    return Cost(0, 12 * grad_output.numel())


@formula(aten.affine_grid_generator, aten.cudnn_affine_grid_generator)
def affine_grid(out: Tensor, theta: Tensor) -> Cost:
    """``out[n, p, i] = sum(theta[n, i, j] * base[p, j] for j)``: a matrix product."""
    return Cost(out.numel() * theta.shape[-1], 0, out.numel())


@formula(aten.affine_grid_generator_backward, aten.cudnn_affine_grid_generator_backward)
def affine_grid_backward(grad: Tensor) -> Cost:
    """``dtheta[n, i, j] = sum(dgrid[n, p, i] * base[p, j] for p)``; ``base`` has one coordinate more than ``dgrid``."""
    return Cost(grad.numel() * (grad.shape[-1] + 1))
