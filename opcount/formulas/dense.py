"""Linear layers that kernels fuse with their bias and activation: the products that they stand for.

Sources: NVIDIA/apex (``fused_dense``, ``mlp``) and flash-attn 2 (``ops/fused_dense.py``), which share a name.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, require
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd = OperatorNames("autograd")


def _linear(rows: int, weight: Tensor, bias: Tensor | None) -> Cost:
    outputs = rows * weight.shape[0]
    return Cost(outputs * weight.shape[1], outputs * (bias is not None), outputs)


def _gradients(rows: int, weight: Tensor, bias: Tensor | None, into: bool) -> Cost:
    outputs = rows * weight.shape[0]
    made = into + needs_grad(weight)
    return Cost(outputs * weight.shape[1] * made, outputs * needs_grad(bias))


def _rows(x: Tensor, weight: Tensor) -> int:
    require(weight.dim() == 2 and x.shape[-1] == weight.shape[1], "a weight of (out, in) for x of (..., in)", weight)
    return int(x.numel() // x.shape[-1])


@formula(autograd.FusedDenseFunc)
def linear(_out: object, x: Tensor, weight: Tensor, bias: Tensor | None = None, /, *_: object) -> Cost:
    """``out = x @ weight.T + bias``."""
    return _linear(_rows(x, weight), weight, bias)


@formula(autograd.FusedDenseFuncBackward)
def linear_backward(_out: object, x: Tensor, weight: Tensor, bias: Tensor | None = None, /, *_: object) -> Cost:
    """A product for each of ``dx`` and ``dweight``; one for each output for the bias."""
    return _gradients(_rows(x, weight), weight, bias, needs_grad(x))


@formula(autograd.FusedDenseGeluDenseFunc, autograd.FusedMLPFunc)
def two_layers(_out: object, x: Tensor, w1: Tensor, b1: Any, w2: Tensor, b2: Any, /, *_: object) -> Cost:
    """``out = activation(x @ w1.T + b1) @ w2.T + b2``."""
    rows = _rows(x, w1)
    return _linear(rows, w1, b1) + _linear(rows, w2, b2) + Cost(0, rows * w1.shape[0])


@formula(autograd.FusedDenseGeluDenseFuncBackward)
def two_layers_backward(_out: object, x: Tensor, w1: Tensor, b1: Any, w2: Tensor, b2: Any, /, *_: object) -> Cost:
    """Two products for each layer; the activation's gradient takes two for each hidden element."""
    rows = _rows(x, w1)
    inner = any(map(needs_grad, (x, w1, b1)))
    products = _gradients(rows, w1, b1, needs_grad(x)) + _gradients(rows, w2, b2, inner)
    return products + Cost(0, 2 * rows * w1.shape[0] * inner)


@formula(autograd.FusedMLPFuncBackward)
def mlp_backward(_out: object, x: Tensor, w1: Tensor, b1: Any, w2: Tensor, b2: Any, /, *args: Any) -> Cost:
    """As `two_layers_backward`; the hidden elements anew, as ``checkpoint_lvl`` says: by their activation, or all."""
    level = args[3] if len(args) > 3 else 0
    rows = _rows(x, w1)
    again = _linear(rows, w1, b1) if level == 2 else Cost()
    activated = Cost(0, rows * w1.shape[0]) if level else Cost()
    return two_layers_backward(_out, x, w1, b1, w2, b2) + activated + Cost(again.macs, again.arith)


@formula(autograd.MlpFunction)
def layers(_out: object, bias: int, activation: int, x: Tensor, /, *args: Tensor) -> Cost:
    """``x = activation(x @ w.T + b)`` for each layer of apex's MLP; the weights come first, then the biases."""
    weights, biases = _layers(x, bias, args)
    rows, total = _rows(x, weights[0]), Cost()
    for weight, b in zip(weights, biases, strict=True):
        total += _linear(rows, weight, b) + Cost(0, rows * weight.shape[0] * bool(activation))
    return total


@formula(autograd.MlpFunctionBackward)
def layers_backward(_out: object, bias: int, activation: int, x: Tensor, /, *args: Tensor) -> Cost:
    """Two products for each layer, and one for each output for its activation; the first layer's only as wanted."""
    weights, biases = _layers(x, bias, args)
    rows, total = _rows(x, weights[0]), Cost()
    wanted = needs_grad(x)
    for weight, b in zip(weights, biases, strict=True):
        total += _gradients(rows, weight, b, wanted) + Cost(0, rows * weight.shape[0] * bool(activation))
        wanted = wanted or needs_grad(weight) or needs_grad(b)
    return total


def _layers(x: Tensor, bias: int, args: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    n = len(args) // 2 if bias else len(args)
    weights, biases = args[:n], args[n:] if bias else (None,) * n
    sizes = [x.shape[-1], *(weight.shape[0] for weight in weights)]
    fits = all(weight.shape == (o, i) for weight, (i, o) in zip(weights, pairwise(sizes), strict=True))
    require(fits and len(biases) == n, "weights of one layer after the other", args)
    return weights, biases
