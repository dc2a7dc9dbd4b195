"""Filters between two samplings, as StyleGAN has them: spread the elements, pad, filter, and keep some.

``out[p] = sum(taps[t] * x[(p * down + t - pad) / up] for t where that divides)``: a MAC for each such tap. Zeros that
upsampling would put between the elements are not computed with, nor is what downsampling would leave out. Without
their kernels these libraries run a convolution over all of them, and that is counted then. A gain is folded into the
taps; a border that lies outside is counted, as in a convolution.

Sources: rosinality/stylegan2-pytorch (``op/upfirdn2d.py``), which many copy, mmcv 1.x among them; NVlabs/stylegan3
(``torch_utils/ops/upfirdn2d.py``, ``filtered_lrelu.py``), which mmcv 2 has. The latter make a class for each set of
options, which is asked for them.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, options_of, require
from opcount.registry import ByClass, OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

autograd = OperatorNames("autograd")


class _Axis(NamedTuple):
    """One dimension of a filter: what it reads and writes, and how."""

    inputs: int
    outputs: int
    taps: int
    up: int
    down: int
    pad: int

    @property
    def met(self) -> int:
        """Taps that meet an element, and not a zero between two."""
        return sum(len(range((self.pad - p * self.down) % self.up, self.taps, self.up)) for p in range(self.outputs))

    @property
    def reversed(self) -> _Axis:
        """The gradient's way back."""
        return _Axis(self.outputs, self.inputs, self.taps, self.down, self.up, self.taps - self.pad - 1)


def _filtered(planes: int, y: _Axis, x: _Axis, separable: bool) -> Cost:
    """Price a filter at once, or along the width and then along the height."""
    outputs = planes * y.outputs * x.outputs
    if not separable:
        return Cost(planes * y.met * x.met, 0, outputs)
    return Cost(planes * (y.inputs * x.met + x.outputs * y.met), 0, outputs + planes * y.inputs * x.outputs)


def _gradient(planes: int, y: _Axis, x: _Axis, separable: bool) -> Cost:
    return Cost(_filtered(planes, y.reversed, x.reversed, separable).macs)


@formula(autograd.UpFirDn2d)
def upfirdn(
    out: Tensor, x: Tensor, taps: Tensor, up: Sequence[int], down: Sequence[int], pad: Sequence[int], /
) -> Cost:
    """``out[p] = sum(taps[t] * x[(p * down + t - pad) / up] for t where that divides)``: a MAC for each such tap."""
    return _filtered(*_axes(out, x, taps, up, down, pad), separable=False)


@formula(autograd.UpFirDn2dBackward)
def upfirdn_backward(out: Tensor, x: Tensor, taps: Tensor, /, *args: Any) -> Cost:
    """The same with ``up`` and ``down`` exchanged, on the gradient.

    The class of that name is also a function of its own, for second derivatives; its nine arguments tell.
    """
    if len(args) == 3:
        up, down, pad = args
        return _gradient(*_axes(out, x, taps, up, down, pad), separable=False)
    require(len(args) == 7, "the arguments of UpFirDn2d or UpFirDn2dBackward", args)
    _taps, up, down, _pad, before, _in, _out = args
    return _filtered(*_axes(out, x, taps, down, up, before), separable=False)


@formula(autograd.Upfirdn2dCuda)
@ByClass
def upfirdn_class(function: type, out: Tensor, x: Tensor, taps: Tensor | None, /) -> Cost:
    """As `upfirdn`; taps of one dimension are applied along the width, and then along the height."""
    return _filtered(*_class_axes(options_of(function), out, x, taps), separable=_is_separable(taps))


@formula(autograd.Upfirdn2dCudaBackward)
@ByClass
def upfirdn_class_backward(function: type, out: Tensor, x: Tensor, taps: Tensor | None, /) -> Cost:
    """The same with ``up`` and ``down`` exchanged, on the gradient."""
    return _gradient(*_class_axes(options_of(function), out, x, taps), separable=_is_separable(taps))


@formula(autograd.FilteredLReluCuda)
@ByClass
def filtered_activation(function: type, out: Tensor, x: Tensor, *args: Any) -> Cost:
    """Bias, upsampling filter, leaky ReLU with a gain, downsampling filter: the parts' sum.

    One for each input element for the bias; for each element between the filters one for the activation, one for a
    gain, and one for a limit.
    """
    first, second, between, each = _filtered_parts(options_of(function), out, x, args)
    biased = x.numel() if len(args) > 2 and args[2] is not None else 0
    return _filtered(*first) + _filtered(*second) + Cost(0, biased + between * each)


@formula(autograd.FilteredLReluCudaBackward)
@ByClass
def filtered_activation_backward(function: type, out: Tensor, x: Tensor, *args: Any) -> Cost:
    """Both filters backwards; between them the sign, or zero, that was kept, times the gain; a sum for the bias."""
    first, second, between, _ = _filtered_parts(options_of(function), out, x, args)
    biased = x.numel() if len(args) > 2 and needs_grad(args[2]) else 0
    return _gradient(*first) + _gradient(*second) + Cost(0, biased + 2 * between)


def _axes(
    out: Tensor, x: Tensor, taps: Tensor, up: Sequence[int], down: Sequence[int], pad: Sequence[int]
) -> tuple[int, _Axis, _Axis]:
    """Return the planes, the height and the width; ``up`` and ``down`` are ``(x, y)``, ``pad`` ``(x0, x1, y0, y1)``."""
    require(x.dim() == out.dim() == 4 and taps.dim() == 2 and len(pad) == 4, "a 2-D filter and four paddings", pad)
    y_axis = _Axis(x.shape[2], out.shape[2], taps.shape[0], up[1], down[1], pad[2])
    x_axis = _Axis(x.shape[3], out.shape[3], taps.shape[1], up[0], down[0], pad[0])
    return x.shape[0] * x.shape[1], y_axis, x_axis


def _class_axes(options: Mapping[str, Any], out: Tensor, x: Tensor, taps: Tensor | None) -> tuple[int, _Axis, _Axis]:
    names = "upx upy downx downy padx0 pady0".split()
    require(all(name in options for name in names), "the options of StyleGAN 3's filter", sorted(options))
    up_x, up_y, down_x, down_y, pad_x, pad_y = (options[name] for name in names)
    height, width = _lengths(taps)
    y_axis = _Axis(x.shape[2], out.shape[2], height, up_y, down_y, pad_y)
    return x.shape[0] * x.shape[1], y_axis, _Axis(x.shape[3], out.shape[3], width, up_x, down_x, pad_x)


_Pass = tuple[int, _Axis, _Axis, bool]


def _filtered_parts(
    options: Mapping[str, Any], out: Tensor, x: Tensor, args: tuple[Any, ...]
) -> tuple[_Pass, _Pass, int, int]:
    """Return both filters, the elements between them, and the operations for each of these."""
    names = "up down px0 px1 py0 py1 gain clamp".split()
    require(all(name in options for name in names), "the options of StyleGAN 3's filtered_lrelu", sorted(options))
    up, down, x0, x1, y0, y1, gain, limit = (options[name] for name in names)
    (up_h, up_w), (down_h, down_w) = map(_lengths, args[:2])
    h, w = x.shape[2] * up + y0 + y1 - up_h + 1, x.shape[3] * up + x0 + x1 - up_w + 1
    planes = x.shape[0] * x.shape[1]
    first = (_Axis(x.shape[2], h, up_h, up, 1, y0), _Axis(x.shape[3], w, up_w, up, 1, x0))
    second = (_Axis(h, out.shape[2], down_h, 1, down, 0), _Axis(w, out.shape[3], down_w, 1, down, 0))
    each = 1 + (gain != 1) + (limit != inf)
    return (planes, *first, _is_separable(args[0])), (planes, *second, _is_separable(args[1])), planes * h * w, each


def _lengths(taps: Tensor | None) -> tuple[int, int]:
    return (1, 1) if taps is None else (taps.shape[0], taps.shape[-1])


def _is_separable(taps: Tensor | None) -> bool:
    return taps is not None and taps.dim() == 1 and taps.shape[0] > 1
