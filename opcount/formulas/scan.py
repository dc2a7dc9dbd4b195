"""Selective scans: Mamba's recurrence, the short convolution before it, and the layer around both.

The state of each channel is ``n`` numbers, and at each step ``h = exp(delta * A) * h + delta * B * u; y = C @ h``. The
read-out is a product, one MAC for each number of the state. The rest is elementwise, six operations: ``delta * A``, its
exponential, ``delta * B``, times ``u``, and the two of the update. These are the numbers of the path of PyTorch
operators in transformers (``mamba_selective_scan``), step by step: fused == decomposed. VMamba counts ``9 b d l n``
FLOPs for the whole, where the convention ``full`` reads ``8 b d l n``.

Backward kernels compute the states anew, six operations; the gradients take ``dh += dy @ C`` and ``dC = dy @ h`` as
products, and 15 operations: three for ``dh`` through the update, and twelve for ``delta``, ``A``, ``B`` and ``u``. They
make all gradients, whichever are wanted.

Sources: state-spaces/mamba 1.0 to 2.3 (``ops/selective_scan_interface.py``), Dao-AILab/causal-conv1d 1.0 to 1.6,
MzeroMiko/VMamba (``csms6s.py``, where the bias stands in the place of the gate), hustvl/Vim (two directions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, real_macs, require
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd, dao = OperatorNames("autograd"), OperatorNames("DaoAILab")

_VMAMBA = ("SelectiveScanCuda", "SelectiveScanMamba", "SelectiveScanCore", "SelectiveScanOflex", "SelectiveScan")


class _Extras(NamedTuple):
    """Optional parts of a scan: skip connection, gate, bias of the steps, softplus of the steps."""

    skip: bool
    gate: bool
    bias: bool
    softplus: bool


@formula(autograd.SelectiveScanFn, *(f"autograd.{name}" for name in _VMAMBA))
def selective_scan(_out: object, u: Tensor, delta: Tensor, a: Tensor, _b: Tensor, _c: Tensor, /, *args: Any) -> Cost:
    """``h = exp(delta * A) * h + delta * B * u; y = C @ h`` for ``(b, d, l)`` and states of ``n``: ``b d l n`` MACs.

    Six operations for each number of a state; for each of ``u`` one for a bias of ``delta``, one for its softplus, two
    for the skip ``D * u``, two for the gate ``silu(z)``.
    """
    return _scan(u, a, _extras(u, delta, args))


@formula(autograd.SelectiveScanFnBackward, *(f"autograd.{name}Backward" for name in _VMAMBA))
def selective_scan_backward(_out: object, u: Tensor, delta: Tensor, a: Tensor, /, *args: Any) -> Cost:
    """The states anew, then the recurrence from its end: two MACs and 21 operations for each number of a state.

    For each of ``u`` four for the skip, five for the gate, two for the softplus, one for the bias.
    """
    return _scan_backward(u, a, _extras(u, delta, args[2:]))


@formula(autograd.CausalConv1dFn)
def causal_convolution(_out: object, x: Tensor, weight: Tensor, bias: Tensor | None = None, /, *args: Any) -> Cost:
    """``out[c, t] = sum(weight[c, i] * x[c, t - i] for i)``: ``width`` MACs for each of ``x``; one for bias, for SiLU.

    A padded `torch.nn.Conv1d` counts its ``width - 1`` cropped columns, too.
    """
    require(x.dim() == 3 and weight.shape[0] == x.shape[1], "x of shape (b, c, l), a filter for each channel", x)
    return _convolution(x.numel(), weight, bias, _is_activated(args))


@formula(autograd.CausalConv1dFnBackward)
def causal_convolution_backward(
    _out: object, x: Tensor, weight: Tensor, bias: Tensor | None = None, /, *args: Any
) -> Cost:
    """As forward for the input, and for the weight; the sum before a SiLU is computed anew, its gradient takes two."""
    made = needs_grad(x) + needs_grad(weight)
    return _convolution_backward(x.numel(), weight, bias, _is_activated(args), made, needs_grad(bias))


@formula(dao._causal_conv1d_fwd_cpp)
def causal_convolution_operator(_out: object, x: Tensor, weight: Tensor, bias: Tensor | None, /, *args: Any) -> Cost:
    """As `causal_convolution`: ``width`` MACs for each of ``x``."""
    return _convolution(x.numel(), weight, bias, args[-1])


@formula(dao._causal_conv1d_bwd_cpp)
def causal_convolution_backward_operator(
    _out: object, x: Tensor, weight: Tensor, bias: Tensor | None, /, *args: Any
) -> Cost:
    """Both gradients, and the one of a bias; before a SiLU the sum anew."""
    return _convolution_backward(x.numel(), weight, bias, args[-1], 2, bias is not None)


@formula(dao._causal_conv1d_update_cpp)
def causal_convolution_update(
    _out: object, x: Tensor, _state: Tensor, weight: Tensor, bias: Tensor | None, _y: Tensor, silu: bool, /, *_: Any
) -> Cost:
    """The next column, or columns, of `causal_convolution`."""
    return _convolution(x.numel(), weight, bias, silu)


class _Layer(NamedTuple):
    """A Mamba layer's sizes: batch x length, channels, state, their filter, rank of the steps, rows of ``x_proj``."""

    tokens: int
    channels: int
    xz: Tensor
    conv: Tensor
    conv_bias: Tensor | None
    rank: int
    mixed: int


@formula(autograd.MambaInnerFn)
def mamba_inner(
    _out: object,
    xz: Tensor,
    conv: Tensor,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    delta_proj: Tensor,
    out_proj: Tensor,
    out_bias: Tensor | None,
    a: Tensor,
    /,
    *args: Any,
) -> Cost:
    """Convolution with SiLU, ``x_proj``, ``delta_proj``, scan with gate, ``out_proj``: the parts' sum."""
    layer = _layer(xz, conv, conv_bias, x_proj, delta_proj)
    return _inner(layer, a, args) + _projected(layer.tokens, layer.channels, out_proj, out_bias)


@formula(autograd.MambaInnerFnBackward)
def mamba_inner_backward(_out: object, /, *args: Any) -> Cost:
    """All gradients of the parts; convolution and ``delta_proj`` are first computed anew (``checkpoint_lvl`` 1)."""
    layer = _layer(*args[:5])
    out = _projected(layer.tokens, layer.channels, *args[5:7])
    return _inner_backward(layer, args[7], args[8:]) + Cost(2 * out.macs, out.arith)


@formula(autograd.MambaInnerFnNoOutProj)
def mamba_inner_unprojected(
    _out: object,
    xz: Tensor,
    conv: Tensor,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    delta_proj: Tensor,
    a: Tensor,
    /,
    *args: Any,
) -> Cost:
    """As `mamba_inner`, without ``out_proj``."""
    return _inner(_layer(xz, conv, conv_bias, x_proj, delta_proj), a, args)


@formula(autograd.MambaInnerFnNoOutProjBackward)
def mamba_inner_unprojected_backward(_out: object, /, *args: Any) -> Cost:
    """As `mamba_inner_backward`, without ``out_proj``."""
    return _inner_backward(_layer(*args[:5]), args[5], args[6:])


def _extras(u: Tensor, delta: Tensor, args: tuple[Any, ...]) -> _Extras:
    """Return the optional parts: ``(D, z, bias, softplus, ...)``, or ``(D, bias, softplus, ...)``, told by rank."""
    require(u.dim() == 3 and delta.shape == u.shape, "u and delta of shape (b, d, l)", u)
    ranks = [arg.dim() for arg in args[1:3] if hasattr(arg, "dim")]
    flags = [arg for arg in args if isinstance(arg, bool)]
    skip = bool(args) and args[0] is not None
    return _Extras(skip, 3 in ranks, 1 in ranks, bool(flags and flags[0]))


def _scan(u: Tensor, a: Tensor, extras: _Extras, numel: int | None = None) -> Cost:
    elements = u.numel() if numel is None else numel
    states = elements * a.shape[-1]
    each = 2 * extras.skip + 2 * extras.gate + extras.bias + extras.softplus
    return Cost(real_macs(states, a), 6 * states + each * elements, elements)


def _scan_backward(u: Tensor, a: Tensor, extras: _Extras, numel: int | None = None) -> Cost:
    elements = u.numel() if numel is None else numel
    states = elements * a.shape[-1]
    each = 4 * extras.skip + 5 * extras.gate + extras.bias + 2 * extras.softplus
    return Cost(real_macs(2 * states, a), 21 * states + each * elements)


def _convolution(elements: int, weight: Tensor, bias: Tensor | None, silu: bool) -> Cost:
    return Cost(elements * weight.shape[-1], elements * ((bias is not None) + silu), elements)


def _convolution_backward(
    elements: int, weight: Tensor, bias: Tensor | None, silu: bool, made: int, bias_made: bool
) -> Cost:
    anew = elements * (2 + (bias is not None)) if silu else 0
    return Cost(elements * weight.shape[-1] * (made + silu), anew + elements * bias_made)


def _is_activated(args: tuple[Any, ...]) -> bool:
    """Find the activation, which is the one string: fourth in version 1.0, eighth since 1.2."""
    return any(isinstance(arg, str) for arg in args)


def _layer(xz: Tensor, conv: Tensor, conv_bias: Tensor | None, x_proj: Tensor, delta_proj: Tensor) -> _Layer:
    require(xz.dim() == conv.dim() == 3, "xz of shape (b, 2 d, l) and a filter of shape (d, 1, width)", xz)
    channels = xz.shape[1] // 2
    fits = conv.shape[0] == channels == delta_proj.shape[0] == x_proj.shape[1]
    require(fits, "projections of the inner channels", x_proj)
    tokens = xz.shape[0] * xz.shape[2]
    return _Layer(tokens, channels, xz, conv, conv_bias, delta_proj.shape[1], x_proj.shape[0])


def _projected(tokens: int, width: int, weight: Tensor, bias: Tensor | None) -> Cost:
    outputs = tokens * weight.shape[0]
    return Cost(outputs * width, outputs * (bias is not None), outputs)


def _inner(layer: _Layer, a: Tensor, args: tuple[Any, ...]) -> Cost:
    """Price ``(B, C, D, delta_bias, B_bias, C_bias, softplus, checkpoint, B_norm, C_norm, delta_norm)``."""
    elements = layer.tokens * layer.channels
    parts = _convolution(elements, layer.conv, layer.conv_bias, silu=True)
    parts += Cost(elements * layer.mixed, 0, layer.tokens * layer.mixed)
    parts += Cost(elements * layer.rank, 0, elements)
    parts += Cost(0, layer.tokens * a.shape[-1] * sum(map(_is_given, args[4:6])))
    parts += Cost(0, 4 * _normed(layer, a, args))
    return parts + _scan(layer.xz, a, _inner_extras(args), elements)


def _inner_backward(layer: _Layer, a: Tensor, args: tuple[Any, ...]) -> Cost:
    elements = layer.tokens * layer.channels
    anew = args[7] if len(args) > 7 else 1
    parts = _convolution_backward(elements, layer.conv, layer.conv_bias, True, 2, layer.conv_bias is not None)
    parts += Cost(
        2 * elements * (layer.mixed + layer.rank), layer.tokens * a.shape[-1] * sum(map(_is_given, args[4:6]))
    )
    parts += Cost(0, (9 + 4 * bool(anew)) * _normed(layer, a, args))
    if anew:
        again = _convolution(elements, layer.conv, layer.conv_bias, silu=True)
        parts += Cost(again.macs + elements * layer.rank, again.arith)
    return parts + _scan_backward(layer.xz, a, _inner_extras(args), elements)


def _inner_extras(args: tuple[Any, ...]) -> _Extras:
    skip, bias = (len(args) > i and _is_given(args[i]) for i in (2, 3))
    return _Extras(skip, True, bias, args[6] if len(args) > 6 else True)


def _normed(layer: _Layer, a: Tensor, args: tuple[Any, ...]) -> int:
    """Count the elements that RMS norms of ``B``, ``C`` and ``delta`` work on."""
    b, c, delta = (_is_given(arg) for arg in (*args[8:11], None, None, None)[:3])
    return layer.tokens * (a.shape[-1] * (b + c) + layer.channels * delta)


def _is_given(arg: object) -> bool:
    return hasattr(arg, "numel")
