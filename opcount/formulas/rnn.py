"""Recurrent networks: each gate's products at every valid step, as if decomposed into them.

A step of ``b`` rows, input size ``i``, hidden size ``h`` and ``g`` gates multiplies ``(b, i)`` with ``(i, g h)`` and
``(b, p)`` with ``(p, g h)``, where ``p`` is ``h`` or the size of a projection, itself a product ``(b, h)`` with
``(h, p)``. Only the number of rows matters, so a packed sequence counts its valid steps.

The arithmetic of the gates, for each row and hidden element, is what the decomposed operators of a step add up to.
Backward, every product turns into two, one for the data and one for the weights. The decomposed weight gradients are
accumulated step by step; a fused kernel's are one product, so that nothing is added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.cost import Cost
from opcount.registry import OperatorNames, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Cell(NamedTuple):
    """A recurrent cell; its operations are for each row and hidden element.

    Attributes:
        gates: Products with ``(i, h)`` and ``(p, h)`` weights.
        forward: Operations, biases apart: additions of the gates' halves, activations, the state's update.
        backward: The same.
    """

    gates: int
    forward: int
    backward: int


_LSTM = Cell(4, 4 + 5 + 4, 1 + 6 + 6 + 9)
"""Four sums of halves; five activations; three products and a sum.

Backward a sum, six products, two derivatives of tanh and three of sigmoid at three operations each.
"""
_GRU = Cell(3, 2 + 2 + 1 + 1 + 1 + 3, 16)
"""Two sums and sigmoids; ``tanh(i + r * h)``; ``(h - n) * z + n``."""
_CELLS = (Cell(1, 1 + 1, 1), Cell(1, 1 + 1, 3), _LSTM, _GRU)
"""By the mode of the kernels: RNN with ReLU, RNN with tanh, LSTM, GRU."""


class Layers(NamedTuple):
    """A stack of recurrent layers.

    Attributes:
        cell: Its kind.
        rows: Valid steps of all sequences.
        inputs: Features of the input.
        hidden: Features of the state.
        projected: Features of the projected state; 0 without projection.
        layers: How many.
        directions: 1 or 2.
        biased: Whether both products have a bias.
        dropout: Whether values are dropped between layers.
    """

    cell: Cell
    rows: int
    inputs: int
    hidden: int
    projected: int = 0
    layers: int = 1
    directions: int = 1
    biased: bool = True
    dropout: bool = False

    def forward(self) -> Cost:
        """Return the cost of all layers, both directions."""
        macs = self._products()
        cells = self.rows * self.hidden * self.layers * self.directions
        arith = cells * (self.cell.forward + (2 * self.cell.gates if self.biased else 0))
        outputs = cells * 2 * self.cell.gates + self.rows * self.projected * self.layers * self.directions
        return Cost(macs, arith + 2 * self._dropped(), outputs)

    def backward(self, *, weights: bool = True) -> Cost:
        """Return the cost of the gradients of the data, and of the weights where they are asked for."""
        macs = self._products()
        cells = self.rows * self.hidden * self.layers * self.directions
        arith = cells * (self.cell.backward + (2 * self.cell.gates if self.biased and weights else 0))
        states = self.rows * (self.projected or self.hidden) * self.layers * self.directions
        return Cost(macs * (1 + weights), arith + states + 2 * self._dropped(), 0)

    def _products(self) -> int:
        state = self.projected or self.hidden
        gates = self.cell.gates * self.hidden
        inputs = self.inputs + (self.layers - 1) * state * self.directions
        each = gates * inputs + self.layers * (gates * state + self.projected * self.hidden)
        return self.rows * self.directions * each

    def _dropped(self) -> int:
        state = (self.projected or self.hidden) * self.directions
        return self.rows * state * (self.layers - 1) if self.dropout else 0


def _stack(
    cell: Cell,
    x: Tensor,
    sizes: tuple[int, int, int],
    *,
    biased: bool,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> Layers:
    """Describe layers of ``(hidden, projected, how many)``; a projection to the hidden size is none."""
    hidden, projected, layers = sizes
    return Layers(
        cell=cell,
        rows=x.numel() // x.shape[-1],
        inputs=x.shape[-1],
        hidden=hidden,
        projected=0 if projected == hidden else projected,
        layers=layers,
        directions=1 + bool(bidirectional),
        biased=bool(biased),
        dropout=bool(dropout),
    )


@formula(aten.mkldnn_rnn_layer)
def mkldnn_layer(input: Tensor, mode: int, hidden_size: int, has_biases: bool) -> Cost:
    """One layer, one direction: ``g h (i + h)`` MACs for each row."""
    return _stack(_CELLS[mode], input, (hidden_size, 0, 1), biased=has_biases).forward()


@formula(aten.mkldnn_rnn_layer_backward)
def mkldnn_layer_backward(input: Tensor, mode: int, hidden_size: int, has_biases: bool) -> Cost:
    """One layer, one direction, data and weights: ``2 g h (i + h)`` MACs for each row."""
    return _stack(_CELLS[mode], input, (hidden_size, 0, 1), biased=has_biases).backward()


@formula(aten._cudnn_rnn, aten.miopen_rnn, aten._cudnn_rnn_backward, aten.miopen_rnn_backward)
def gpu_rnn(
    input: Tensor,
    weight_stride0: int,
    mode: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    output_mask: Sequence[bool] | None = None,
    proj_size: int = 0,
) -> Cost:
    """All layers and directions: each gate's products at every valid step.

    Backward, each product for the data, and once more for the weights if asked for. A layer has ``weight_stride0``
    weights, biases and projection included.
    """
    stack = _stack(
        _CELLS[mode],
        input,
        (hidden_size, proj_size, num_layers),
        biased=weight_stride0 >= 4,
        bidirectional=bidirectional,
        dropout=train and dropout,
    )
    return stack.forward() if output_mask is None else stack.backward(weights=output_mask[3])


@formula(aten._lstm_mps, aten.lstm_mps_backward)
def lstm_mps(
    input: Tensor,
    hx: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    z_state: Tensor | None = None,
) -> Cost:
    """All layers and directions of an LSTM: each gate's products at every step; backward, each product twice.

    A backward is given the ``z_state`` of its forward.
    """
    sizes = (hx[1].shape[-1], hx[0].shape[-1], num_layers)
    dropped = train and dropout
    stack = _stack(_LSTM, input, sizes, biased=has_biases, bidirectional=bidirectional, dropout=dropped)
    return stack.forward() if z_state is None else stack.backward()


@formula(aten._thnn_fused_lstm_cell)
def lstm_cell(cx: Tensor, input_bias: Tensor | None) -> Cost:
    """The rest of a step after its two products: 13 operations for each state, 8 more to add the biases."""
    return Cost(0, cx.numel() * (_LSTM.forward + (8 if input_bias is not None else 0)), 0)


@formula(aten._thnn_fused_lstm_cell_backward_impl)
def lstm_cell_backward(cx: Tensor, has_bias: bool) -> Cost:
    """The gates' gradients: 22 operations for each state, 4 more to sum the bias's."""
    return Cost(0, cx.numel() * (_LSTM.backward + 4 * has_bias), 0)


@formula(aten._thnn_fused_gru_cell)
def gru_cell(hx: Tensor, input_bias: Tensor | None) -> Cost:
    """The rest of a step after its two products: 10 operations for each state, 6 more to add the biases."""
    return Cost(0, hx.numel() * (_GRU.forward + (6 if input_bias is not None else 0)), 0)


@formula(aten._thnn_fused_gru_cell_backward)
def gru_cell_backward(grad_hy: Tensor, has_bias: bool) -> Cost:
    """The gates' gradients: 16 operations for each state, 6 more to sum the biases'."""
    return Cost(0, grad_hy.numel() * (_GRU.backward + 6 * has_bias), 0)


@formula(aten.quantized_lstm, aten.quantized_gru)
def quantized_rnn(
    out: tuple[Tensor, ...],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    input: Tensor | None = None,
    data: Tensor | None = None,
) -> Cost:
    """All layers and directions with 8-bit or half weights: each gate's products at every valid step.

    The input is called ``data`` where it is a packed sequence.
    """
    x: Any = data if input is None else input
    sizes = (out[1].shape[-1], 0, num_layers)
    cell = _LSTM if len(out) == 3 else _GRU
    dropped = train and dropout
    return _stack(cell, x, sizes, biased=has_biases, bidirectional=bidirectional, dropout=dropped).forward()


_quantized = OperatorNames("quantized")


@formula(aten.quantized_lstm_cell, _quantized.quantized_lstm_cell_dynamic)
def quantized_lstm_cell(input: Tensor, hx: Sequence[Tensor]) -> Cost:
    """One step of an LSTM: ``4 h (i + h)`` MACs for each row."""
    return _step(_LSTM, input, hx[0])


@formula(aten.quantized_gru_cell, _quantized.quantized_gru_cell_dynamic)
def quantized_gru_cell(input: Tensor, hx: Tensor) -> Cost:
    """One step of a GRU: ``3 h (i + h)`` MACs for each row."""
    return _step(_GRU, input, hx)


@formula(
    aten.quantized_rnn_relu_cell,
    aten.quantized_rnn_tanh_cell,
    _quantized.quantized_rnn_relu_cell_dynamic,
    _quantized.quantized_rnn_tanh_cell_dynamic,
)
def quantized_rnn_cell(input: Tensor, hx: Tensor) -> Cost:
    """One step: ``h (i + h)`` MACs for each row."""
    return _step(_CELLS[0], input, hx)


def _step(cell: Cell, x: Tensor, hx: Tensor) -> Cost:
    return Layers(cell, x.numel() // x.shape[-1], x.shape[-1], hx.shape[-1]).forward()
