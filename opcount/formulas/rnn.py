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
from opcount.registry import Names, aten
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


@formula(aten.mkldnn_rnn_layer)
def mkldnn_layer(_out: object, x: Tensor, /, *args: Any, **_: object) -> Cost:
    """One layer, one direction: ``g h (i + h)`` MACs for each row."""
    # args: four weights, hx, cx, reverse, batch_sizes, mode, hidden_size, num_layers, has_biases, ...
    return _one_layer(x, args[8], args[9], biased=args[11]).forward()


@formula(aten.mkldnn_rnn_layer_backward)
def mkldnn_layer_backward(_out: object, x: Tensor, /, *args: Any, **_: object) -> Cost:
    """One layer, one direction, data and weights: ``2 g h (i + h)`` MACs for each row."""
    # args: four weights, hx, cx, output, hy, cy, three gradients, reverse, mode, hidden_size, num_layers, has_biases
    return _one_layer(x, args[13], args[14], biased=args[16]).backward()


def _one_layer(x: Tensor, mode: int, hidden: int, *, biased: bool) -> Layers:
    return Layers(_CELLS[mode], x.numel() // x.shape[-1], x.shape[-1], hidden, biased=biased)


@formula(aten._cudnn_rnn)
def cudnn_rnn(_out: object, x: Tensor, _weights: Any, stride: int, /, *args: Any, **_: object) -> Cost:
    """All layers and directions: each gate's products at every valid step."""
    _buffer, _hx, _cx, mode, hidden, projected, layers, _batch_first, *switches = args[:11]
    return _stack(x, stride, (mode, hidden, projected, layers), switches).forward()


@formula(aten._cudnn_rnn_backward)
def cudnn_rnn_backward(_out: object, x: Tensor, _weights: Any, stride: int, /, *args: Any, **_: object) -> Cost:
    """All layers and directions: each product of the forward for the data, and once more for weights if asked for."""
    # args: weight_buf, hx, cx, output and three gradients come first, output_mask last
    mode, hidden, projected, layers, _batch_first, *switches = args[7:15]
    return _stack(x, stride, (mode, hidden, projected, layers), switches).backward(weights=args[-1][3])


@formula(aten.miopen_rnn)
def miopen_rnn(_out: object, x: Tensor, _weights: Any, stride: int, /, *args: Any, **_: object) -> Cost:
    """All layers and directions: each gate's products at every valid step."""
    _hx, _cx, mode, hidden, layers, _batch_first, *switches = args[:9]
    return _stack(x, stride, (mode, hidden, 0, layers), switches).forward()


@formula(aten.miopen_rnn_backward)
def miopen_rnn_backward(_out: object, x: Tensor, _weights: Any, stride: int, /, *args: Any, **_: object) -> Cost:
    """All layers and directions: each product of the forward for the data, and once more for weights if asked for."""
    # args: weight_buf, hx, cx, output and three gradients come first, output_mask last
    mode, hidden, layers, _batch_first, *switches = args[7:14]
    return _stack(x, stride, (mode, hidden, 0, layers), switches).backward(weights=args[-1][3])


def _stack(x: Tensor, stride: int, sizes: Sequence[int], switches: Sequence[Any]) -> Layers:
    """Read the arguments of the GPU kernels; each layer has ``stride`` weights, biases and projection included."""
    mode, hidden, projected, layers = sizes
    dropout, train, bidirectional = switches
    return Layers(
        cell=_CELLS[mode],
        rows=x.numel() // x.shape[-1],
        inputs=x.shape[-1],
        hidden=hidden,
        projected=0 if projected in (0, hidden) else projected,
        layers=layers,
        directions=1 + bool(bidirectional),
        biased=stride >= 4,
        dropout=bool(train and dropout),
    )


@formula(aten._lstm_mps)
def lstm_mps(_out: object, x: Tensor, hx: Sequence[Tensor], _params: Any, /, *args: Any, **_: object) -> Cost:
    """All layers and directions of an LSTM: each gate's products at every step."""
    return _mps(x, hx, args).forward()


@formula(aten.lstm_mps_backward)
def lstm_mps_backward(_out: object, /, *args: Any, **_: object) -> Cost:
    """All layers and directions of an LSTM, data and weights: each product of the forward twice."""
    # args: three gradients, z_state, cell_state, input, layersOutputs, hx, params, has_biases, num_layers, ...
    return _mps(args[5], args[7], args[9:]).backward()


def _mps(x: Tensor, hx: Sequence[Tensor], args: Sequence[Any]) -> Layers:
    biased, layers, dropout, train, bidirectional = args[:5]
    projected, hidden = hx[0].shape[-1], hx[1].shape[-1]
    return Layers(
        cell=_LSTM,
        rows=x.numel() // x.shape[-1],
        inputs=x.shape[-1],
        hidden=hidden,
        projected=0 if projected == hidden else projected,
        layers=layers,
        directions=1 + bool(bidirectional),
        biased=bool(biased),
        dropout=bool(train and dropout),
    )


@formula(aten._thnn_fused_lstm_cell)
def lstm_cell(_out: object, _x: Tensor, _h: Tensor, cx: Tensor, /, bias: Tensor | None = None, *_: object) -> Cost:
    """What follows the two products of a step: 13 operations for each state, 8 more to add the biases."""
    return Cost(0, cx.numel() * (_LSTM.forward + (8 if bias is not None else 0)), 0)


@formula(aten._thnn_fused_lstm_cell_backward_impl)
def lstm_cell_backward(
    _out: object, _dh: Any, _dc: Any, cx: Tensor, _cy: Any, _w: Any, biased: bool, /, **_: Any
) -> Cost:
    """The gates' gradients: 22 operations for each state, 4 more to sum the bias's."""
    return Cost(0, cx.numel() * (_LSTM.backward + 4 * biased), 0)


@formula(aten._thnn_fused_gru_cell)
def gru_cell(_out: object, _x: Tensor, _h: Tensor, hx: Tensor, /, bias: Tensor | None = None, *_: object) -> Cost:
    """What follows the two products of a step: 10 operations for each state, 6 more to add the biases."""
    return Cost(0, hx.numel() * (_GRU.forward + (6 if bias is not None else 0)), 0)


@formula(aten._thnn_fused_gru_cell_backward)
def gru_cell_backward(_out: object, grad: Tensor, _workspace: Tensor, biased: bool, /, **_: object) -> Cost:
    """The gates' gradients: 16 operations for each state, 6 more to sum the biases'."""
    return Cost(0, grad.numel() * (_GRU.backward + 6 * biased), 0)


@formula(aten.quantized_lstm, aten.quantized_gru)
def quantized_rnn(out: tuple[Tensor, ...], x: Tensor, /, *args: Any, **_: object) -> Cost:
    """All layers and directions with 8-bit or half weights: each gate's products at every valid step."""
    # args: [batch_sizes,] hx, params, has_biases, num_layers, dropout, train, bidirectional, ...
    args = args if isinstance(args[2], bool) else args[1:]
    _hx, _params, biased, layers, dropout, train, bidirectional = args[:7]
    return Layers(
        cell=_LSTM if len(out) == 3 else _GRU,
        rows=x.numel() // x.shape[-1],
        inputs=x.shape[-1],
        hidden=out[1].shape[-1],
        layers=layers,
        directions=1 + bool(bidirectional),
        biased=biased,
        dropout=bool(train and dropout),
    ).forward()


_quantized = Names("quantized")


@formula(aten.quantized_lstm_cell, _quantized.quantized_lstm_cell_dynamic)
def quantized_lstm_cell(_out: object, x: Tensor, hx: Sequence[Tensor], /, *_: object, **__: object) -> Cost:
    """One step of an LSTM: ``4 h (i + h)`` MACs for each row."""
    return _step(_LSTM, x, hx[0])


@formula(aten.quantized_gru_cell, _quantized.quantized_gru_cell_dynamic)
def quantized_gru_cell(_out: object, x: Tensor, hx: Tensor, /, *_: object, **__: object) -> Cost:
    """One step of a GRU: ``3 h (i + h)`` MACs for each row."""
    return _step(_GRU, x, hx)


@formula(
    aten.quantized_rnn_relu_cell,
    aten.quantized_rnn_tanh_cell,
    _quantized.quantized_rnn_relu_cell_dynamic,
    _quantized.quantized_rnn_tanh_cell_dynamic,
)
def quantized_rnn_cell(_out: object, x: Tensor, hx: Tensor, /, *_: object, **__: object) -> Cost:
    """One step: ``h (i + h)`` MACs for each row."""
    return _step(_CELLS[0], x, hx)


def _step(cell: Cell, x: Tensor, hx: Tensor) -> Cost:
    return Layers(cell, x.numel() // x.shape[-1], x.shape[-1], hx.shape[-1]).forward()
