"""Mamba 2's scan by chunks, and RWKV's: a state of ``n x p`` numbers for each head, written and read by products.

Mamba 2 works on chunks of ``q`` steps (state space duality, arXiv 2405.21060, section 6): within a chunk each step
meets each other, ``C @ B.T`` for each group and then the result times ``x`` for each head; each chunk writes its state,
``B.T @ x``, and reads the one before, ``C @ h``. A causal mask saves nothing, as in attention. The last chunk counts
the steps that it has.

RWKV's kernels (BlinkDL/RWKV-LM) update their state at each step; a head's size is ``n``. RWKV 4's ``WKV`` is
elementwise, and Vision-RWKV has another recurrence under its very name and arguments: it is named, not counted.

Sources: state-spaces/mamba 2.0 to 2.3 (``ops/triton/ssd_combined.py``); RWKV-LM (``RWKV-v5``, ``RWKV-v7``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.cost import Cost
from opcount.formulas._operands import needs_grad, require
from opcount.registry import OperatorNames
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

autograd = OperatorNames("autograd")


class _Scan(NamedTuple):
    """The sizes of a scan by chunks: batch, length, heads, head size, groups, state size, chunk size."""

    b: int
    l: int  # noqa: E741
    h: int
    p: int
    g: int
    n: int
    q: int

    @property
    def pairs(self) -> int:
        """Pairs of steps that meet within a chunk."""
        whole, rest = divmod(self.l, self.q)
        return self.b * (whole * self.q**2 + rest**2)

    @property
    def elements(self) -> int:
        """Elements of the output."""
        return self.b * self.l * self.h * self.p

    @property
    def states(self) -> int:
        """Numbers of the states that are passed from chunk to chunk."""
        return self.b * -(-self.l // self.q) * self.h * self.p * self.n

    @property
    def scores(self) -> int:
        """MACs of ``C @ B.T`` within the chunks."""
        return self.pairs * self.g * self.n

    @property
    def mixed(self) -> int:
        """MACs of the scores times ``x``."""
        return self.pairs * self.h * self.p

    @property
    def through(self) -> int:
        """MACs of writing the states, and of reading them."""
        return self.elements * self.n


def _forward(scan: _Scan, skip: bool, gate: bool, bias: bool, softplus: bool) -> Cost:
    """Price a scan by chunks.

    For each step and head a bias, a softplus, ``dt * A``, its running sum, and two exponentials with their differences
    and products by ``dt``; for each pair and head difference, exponential, and the products with the score and ``dt``;
    for each number of ``B`` in each head its decay; two for each number of a state; for each output its decay and sum,
    two for the skip and two for the gate.
    """
    steps = scan.b * scan.l * scan.h
    arith = steps * (bias + softplus + 2 + 4) + 4 * scan.pairs * scan.h + steps * scan.n + 2 * scan.states
    arith += scan.elements * (2 + 2 * skip + 2 * gate)
    outputs = scan.pairs * scan.g + scan.states + 2 * scan.elements
    return Cost(scan.scores + scan.mixed + 2 * scan.through, arith, outputs)


def _backward(scan: _Scan, skip: bool, gate: bool, bias: bool, softplus: bool) -> Cost:
    """Price all gradients: scores and states anew, two products for each of the forward's, and ``dy @ x.T`` twice.

    Of other arithmetic three times the forward's: anew, and for each factor of a product its gradient.
    """
    macs = 3 * scan.scores + 3 * scan.mixed + 5 * scan.through
    return Cost(macs, 3 * _forward(scan, skip, gate, bias, softplus).arith)


@formula(autograd.MambaChunkScanCombinedFn)
def chunk_scan(_out: object, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int, /, *args: Any) -> Cost:
    """``b l q (g n + h p) + 2 b l h p n`` MACs for ``x`` of ``(b, l, h, p)``, ``B`` of ``(b, l, g, n)``.

    States at the ends of packed sequences (``cu_seqlens``) are products of their own, and not counted: named.
    """
    return _forward(*_combined(x, dt, a, b, c, chunk, *args))


@formula(autograd.MambaChunkScanCombinedFnBackward)
def chunk_scan_backward(_out: object, /, *args: Any) -> Cost:
    """All gradients, by 11 products for the forward's four: scores and states are computed anew."""
    return _backward(*_combined(*args))


@formula(autograd.MambaSplitConv1dScanCombinedFn)
def mamba2_inner(_out: object, mixed: Tensor, conv: Tensor, conv_bias: Tensor | None, /, *args: Any) -> Cost:
    """Convolution with SiLU, scan by chunks with skip and gate, RMS norm, ``out_proj``: the parts' sum."""
    scan, inner, norm, out = _split(mixed, conv, args)
    columns = scan.b * scan.l * conv.shape[0]
    parts = Cost(columns * conv.shape[1], columns * (1 + (conv_bias is not None)), columns)
    parts += _forward(scan, True, True, True, True)
    parts += Cost(0, 4 * scan.elements * norm + 2 * inner)
    return parts + Cost(*out)


@formula(autograd.MambaSplitConv1dScanCombinedFnBackward)
def mamba2_inner_backward(_out: object, mixed: Tensor, conv: Tensor, conv_bias: Tensor | None, /, *args: Any) -> Cost:
    """All gradients of the parts; the convolution is computed anew, and once more in front of its SiLU."""
    scan, inner, norm, out = _split(mixed, conv, args)
    columns = scan.b * scan.l * conv.shape[0]
    parts = Cost(4 * columns * conv.shape[1], columns * (3 + 3 * (conv_bias is not None)))
    parts += _backward(scan, True, True, True, True)
    parts += Cost(0, 9 * scan.elements * norm + 5 * inner)
    return parts + Cost(2 * out[0], out[1])


def _combined(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int, *args: Any
) -> tuple[_Scan, bool, bool, bool, bool]:
    fits = x.dim() == b.dim() == c.dim() == 4 and dt.shape == x.shape[:3] and a.shape == x.shape[2:3]
    require(fits, "x of shape (b, l, h, p), B and C of shape (b, l, g, n)", x)
    skip, gate, bias, _states, _index, ends, softplus = (*args, *[None] * 7)[:7]
    if isinstance(ends, bool):  # version 2.0 has no cu_seqlens
        ends, softplus = None, ends
    require(ends is None, "no cu_seqlens", ends)
    scan = _Scan(x.shape[0], x.shape[1], x.shape[2], x.shape[3], b.shape[2], b.shape[3], chunk)
    return scan, skip is not None, gate is not None, bias is not None, bool(softplus)


def _split(mixed: Tensor, conv: Tensor, args: tuple[Any, ...]) -> tuple[_Scan, int, bool, tuple[int, int, int]]:
    """Return the scan, the elements of a SwiGLU beside it, whether there is a norm, and the cost of ``out_proj``."""
    _dt_bias, a, skip, chunk = args[:4]
    norm, _eps, weight, bias, head, groups = (*args[9:], *[None] * 6)[:6] if len(args) > 9 else [None] * 6
    p: Any = skip.shape[1] if skip.dim() == 2 else head
    require(mixed.dim() == 3 and conv.dim() == 2 and isinstance(p, int), "zxbcdt of shape (b, l, d), a head size", p)
    b, l, width = mixed.shape  # noqa: E741
    h, g = a.shape[0], groups or 1
    n = (conv.shape[0] - h * p) // (2 * g)
    scan = _Scan(b, l, h, p, g, n, chunk)
    beside = (width - 2 * h * p - 2 * g * n - h) // 2
    require(n > 0 and beside >= 0, "projections of gate, x, B, C and steps", mixed)
    out = (0, 0, 0)
    if weight is not None:
        outputs = b * l * weight.shape[0]
        out = (outputs * (h * p + beside), outputs * (bias is not None), outputs)
    return scan, b * l * beside, norm is not None, out


@formula(autograd.WKV_5, autograd.WKV_6, autograd.WKV_6STATE, autograd.WKV_6_FP32, autograd.WKV)
def wkv(_out: object, /, *args: Any) -> Cost:
    """``y = r @ (S + u * k v.T); S = w * S + k v.T`` at each step: two MACs for each number of the state.

    And three operations: ``u * k v.T``, its sum with the state, and the decay. RWKV 5 and 6 (arXiv 2404.05892).
    """
    elements, n, _ = _receptance(args)
    return Cost(2 * elements * n, 3 * elements * n, elements)


@formula(autograd.WKV_5Backward, autograd.WKV_6Backward, autograd.WKV_6STATEBackward, autograd.WKV_6_FP32Backward)
@formula(autograd.WKVBackward)
def wkv_backward(_out: object, /, *args: Any) -> Cost:
    """For each of ``r k v w`` a recurrence and a product as forward; for ``u`` two products for each element."""
    elements, n, (r, k, v, w, u) = _receptance(args)
    made = sum(map(needs_grad, (r, k, v, w)))
    return Cost(2 * elements * (n * made + needs_grad(u)), 3 * elements * n * made)


@formula(autograd.WindBackstepping)
def wind_backstepping(_out: object, w: Tensor, _q: Tensor, _k: Tensor, v: Tensor, /, *_: object) -> Cost:
    """``S = S * w + (S @ z) b.T + v k.T; y = S @ q`` at each step: four MACs and a decay for each number of the state.

    The decay is ``exp(-exp(w))``, three for each element. RWKV 7 (arXiv 2503.14456).
    """
    require(w.dim() == 4 and w.shape == v.shape, "six tensors of shape (b, t, h, n)", w)
    elements, n = v.numel(), v.shape[-1]
    return Cost(4 * elements * n, elements * (n + 3), elements)


@formula(autograd.WindBacksteppingBackward)
def wind_backstepping_backward(_out: object, _w: Tensor, _q: Tensor, _k: Tensor, v: Tensor, /, *_: object) -> Cost:
    """The states backwards, from the next one; then all gradients: 11 MACs and two products for each number.

    ``S`` before the step takes two, ``dS`` two; ``q z b k v w`` and ``S @ z`` take one each. Copies that the kernel
    keeps transposed are not counted.
    """
    elements, n = v.numel(), v.shape[-1]
    return Cost(11 * elements * n, elements * (2 * n + 3))


def _receptance(args: tuple[Any, ...]) -> tuple[int, int, tuple[Any, ...]]:
    """Return the elements, a head's size, and ``r k v w u``: behind ``b, t, c, h``, or with ``u`` of ``(h, n)``."""
    if all(isinstance(arg, int) for arg in args[:4]):
        c, h = args[2:4]
        tensors = args[4:9]
        n = c // h
    else:
        tensors = args[:5]
        n = tensors[-1].shape[-1] if hasattr(tensors[-1], "dim") and tensors[-1].dim() == 2 else 0
    fits = len(tensors) == 5 and all(hasattr(tensor, "dim") for tensor in tensors) and tensors[0].dim() >= 3
    require(fits and n > 0, "sizes b, t, c, h and tensors r, k, v, w, u", args)
    return tensors[0].numel(), n, tensors
