"""Products of each place with its neighbours: correlation, reassembly, neighborhood attention, masked convolution.

Each output element is one dot product of known length, so that it counts like a convolution: borders that fall outside
are counted too, and the output is one of activations.

Sources: the classes of mmcv 1.0 to 2.2 (``mmcv/ops``), NVIDIA/flownet2-pytorch (``correlation_package``), sniklaus's
pytorch-pwc and pytorch-liteflownet, ClementPinard/Pytorch-Correlation-extension, speedinghzl/CCNet and
SHI-Labs/NATTEN to 0.17.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.coverage import FREE
from opcount.formulas._operands import count_where, needs_grad, require
from opcount.formulas.rules import free
from opcount.formulas.sizes import register
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd = OperatorNames("autograd")


def _products(out: Tensor, length: int, epilogue: int = 0) -> Cost:
    outputs = out.numel()
    return Cost(outputs * length, outputs * epilogue, outputs)


@formula(autograd.CARAFEFunction, autograd.CARAFENaiveFunction)
def carafe(out: Tensor, _x: Tensor, masks: Tensor, kernel: int, groups: int, _scale: int, /) -> Cost:
    """``out[c, p] = sum(mask[p, q] * x[c, p // scale + q] for q)``: ``kernel ** 2`` MACs for each output element.

    As in the paper's complexity of the reassembly (CARAFE, arXiv 1905.02188, section 3.4).
    """
    require(masks.dim() == 4 and masks.shape[1] == kernel * kernel * groups, "masks of each tap and group", masks)
    return _products(out, kernel * kernel)


@formula(autograd.CorrelationFunction)
def correlation(out: Tensor, a: Tensor, _b: Tensor, /, *args: Any) -> Cost:
    """``out[d, p] = sum(a[c, p + q] * b[c, p + d + q] for c, q)``: ``channels x kernel`` MACs for each displacement.

    mmcv returns ``(n, d, d, h, w)`` and takes the kernel's size first. FlowNet 2 returns ``(n, d * d, h, w)``, takes
    the padding before it, and divides by the length.
    """
    if out.dim() == 5:
        return _products(out, a.shape[1] * _area(args[0] if args else 1))
    require(out.dim() == 4 and len(args) == 6, "the six numbers of FlowNet 2's correlation", out)
    return _products(out, a.shape[1] * _area(args[1]), 1)


@formula(autograd.SpatialCorrelationSamplerFunction)
def correlation_sampler(out: Tensor, a: Tensor, _b: Tensor, kernel: Any = 1, /, *_: object) -> Cost:
    """``out[d, p] = sum(a[c, p + q] * b[c, p + d + q] for c, q)``: ``channels x kernel`` MACs for each displacement."""
    require(out.dim() == 5, "an output of shape (n, d, d, h, w)", out)
    return _products(out, a.shape[1] * _area(kernel))


@formula(autograd._FunctionCorrelation)
def pwc_correlation(out: Tensor, a: Tensor, _b: Tensor, /, *_: object) -> Cost:
    """``out[d, p] = mean(a[c, p] * b[c, p + d] for c)``: a MAC for each channel, and a division."""
    require(out.dim() == a.dim() == 4, "maps of shape (n, c, h, w)", out)
    return _products(out, a.shape[1], 1)


@formula(autograd.CAWeightFunction, autograd.CA_Weight)
def criss_cross_weight(out: Tensor, t: Tensor, _f: Tensor, /) -> Cost:
    """``out[q, p] = sum(t[c, p] * f[c, q] for c)`` for each ``q`` in the row and column of ``p``: a MAC a channel."""
    require(out.shape[1] == out.shape[2] + out.shape[3] - 1, "weights of a row and a column", out)
    return _products(out, t.shape[1])


@formula(autograd.CAMapFunction, autograd.CA_Map)
def criss_cross_map(out: Tensor, weight: Tensor, _g: Tensor, /) -> Cost:
    """``out[c, p] = sum(weight[q, p] * g[c, q] for q)`` over the row and column of ``p``."""
    require(weight.shape[1] == out.shape[2] + out.shape[3] - 1, "weights of a row and a column", weight)
    return _products(out, weight.shape[1])


_NATTEN = [f"{rank}D" for rank in (1, 2, 3)]


@formula(*(f"autograd.NATTEN{rank}QKRPBFunction" for rank in _NATTEN))
@formula(*(f"autograd.NeighborhoodAttention{rank}QKAutogradFunction" for rank in _NATTEN))
def neighborhood_scores(out: Tensor, q: Tensor, _k: Tensor, bias: Tensor | None = None, /, *_: object) -> Cost:
    """``out[p, n] = sum(q[p, e] * k[p + n, e] for e) + bias[n]`` for each neighbour: a MAC for each ``e``."""
    return _products(out, q.shape[-1], hasattr(bias, "numel"))


@formula(*(f"autograd.NATTEN{rank}QKRPBFunctionBackward" for rank in _NATTEN))
@formula(*(f"autograd.NeighborhoodAttention{rank}QKAutogradFunctionBackward" for rank in _NATTEN))
def neighborhood_scores_backward(out: Tensor, q: Tensor, k: Tensor, bias: Tensor | None = None, /, *_: object) -> Cost:
    """As forward for each of ``q`` and ``k``; one addition for each score for the bias."""
    made = needs_grad(q) + needs_grad(k)
    return Cost(out.numel() * q.shape[-1] * made, out.numel() * needs_grad(bias))


@formula(*(f"autograd.NATTEN{rank}AVFunction" for rank in _NATTEN))
@formula(*(f"autograd.NeighborhoodAttention{rank}AVAutogradFunction" for rank in _NATTEN))
def neighborhood_sums(out: Tensor, weights: Tensor, _v: Tensor, /, *_: object) -> Cost:
    """``out[p, e] = sum(weight[p, n] * v[p + n, e] for n)``: a MAC for each neighbour."""
    return _products(out, weights.shape[-1])


@formula(autograd.MaskedConv2dFunction)
def masked_convolution(
    out: Tensor, _x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None, /, *_: object
) -> Cost:
    """A convolution at the places where the mask is positive, elsewhere zero; as dense where that is everywhere."""
    require(out.shape[0] == mask.shape[0] == 1, "a batch of one", mask)
    outputs = out.shape[1] * count_where(mask, lambda values: values > 0)
    return Cost(outputs * prod(weight.shape[1:]), outputs * (bias is not None), out.numel())


register(FREE, free, [autograd.PSAMaskFunction, autograd.TINShiftFunction, autograd.ActiveRotatedFilterFunction])


@formula(autograd.ActiveRotatedFilterFunctionBackward)
def rotated_filter_backward(out: Tensor, /, *_: object) -> Cost:
    """Each turned copy's gradient is added to the filter's: one for each element of the copies."""
    return Cost(0, out.numel())


def _area(kernel: Any) -> int:
    return prod(kernel) if isinstance(kernel, (list, tuple)) else kernel * kernel
