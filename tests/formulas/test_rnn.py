"""Recurrent networks: a fused kernel counts what its decomposed steps add up to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount.cost import Cost
from tests.formulas.oracle import price_by_name
from tests.formulas.seen import seen

aten = torch.ops.aten
MODES = {"RNN_RELU": 0, "RNN_TANH": 1, "LSTM": 2, "GRU": 3}
SHAPES = [
    {},
    {"bias": False},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]
STEPS, BATCH, INPUTS, HIDDEN = 3, 2, 5, 7


def build(kind, **options):
    nonlinearity = {"RNN_RELU": {"nonlinearity": "relu"}, "RNN_TANH": {"nonlinearity": "tanh"}}.get(kind, {})
    return getattr(nn, kind.partition("_")[0])(INPUTS, HIDDEN, **nonlinearity, **options)


def state(kind, device, options, grad=False):
    rows = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    h = torch.zeros(rows, BATCH, options.get("proj_size", HIDDEN), device=device, requires_grad=grad)
    return (h, torch.zeros(rows, BATCH, HIDDEN, device=device, requires_grad=grad)) if kind == "LSTM" else h


def decomposed(kind, options, steps=STEPS):
    """Run the module step by step, as it arrives on meta tensors; return the costs of forward and backward."""
    module = build(kind, **options).to("meta")
    x = torch.ones(steps, BATCH, INPUTS, device="meta", requires_grad=True)
    hx = state(kind, "meta", options, grad=True)
    outs = []
    forward = seen(lambda: outs.extend(module(x, hx))).total
    ends = [outs[0], *(outs[1] if kind == "LSTM" else [outs[1]])]
    return forward, seen(torch.autograd.backward, ends, [torch.ones_like(end) for end in ends]).total


CUDNN, CUDNN_BACKWARD = aten._cudnn_rnn.default, aten._cudnn_rnn_backward.default
MIOPEN, MIOPEN_BACKWARD = aten.miopen_rnn.default, aten.miopen_rnn_backward.default


def gpu(kind, options, steps=STEPS):
    """Return the arguments of a kernel of a GPU."""
    return {
        "input": torch.ones(steps, BATCH, INPUTS),
        "weight_stride0": (4 if options.get("bias", True) else 2) + ("proj_size" in options),
        "mode": MODES[kind],
        "hidden_size": HIDDEN,
        "num_layers": options.get("num_layers", 1),
        "dropout": 0.0,
        "train": True,
        "bidirectional": options.get("bidirectional", False),
    }


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("kind", MODES)
def test_the_gpu_kernels_forward_counts_every_product_and_gate(kind, options):
    forward, _ = decomposed(kind, options)
    assert price_by_name(CUDNN, proj_size=0, **gpu(kind, options)) == forward
    assert price_by_name(MIOPEN, **gpu(kind, options)) == forward


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("kind", MODES)
def test_the_gpu_kernels_backward_counts_every_product_twice(kind, options):
    _, backward = decomposed(kind, options)
    arguments, all_of_them, data = gpu(kind, options), [True] * 4, [True, True, True, False]
    cost = price_by_name(CUDNN_BACKWARD, proj_size=0, output_mask=all_of_them, **arguments)
    assert cost.macs == backward.macs
    assert 2 * price_by_name(CUDNN_BACKWARD, proj_size=0, output_mask=data, **arguments).macs == cost.macs
    assert price_by_name(MIOPEN_BACKWARD, output_mask=all_of_them, **arguments) == cost


@pytest.mark.parametrize("kind", MODES)
def test_in_one_step_a_fused_backward_computes_what_the_decomposed_one_does(kind):
    _, backward = decomposed(kind, {}, steps=1)  # in more, the decomposed one adds up the weights' gradients, too
    cost = price_by_name(CUDNN_BACKWARD, proj_size=0, output_mask=[True] * 4, **gpu(kind, {}, steps=1))
    assert (cost.macs, cost.arith) == (backward.macs, backward.arith)


@pytest.mark.parametrize(
    "options", [{"proj_size": 4}, {"proj_size": 4, "num_layers": 2, "bidirectional": True}], ids=str
)
def test_a_projection_is_one_more_product(options):
    forward, backward = decomposed("LSTM", options)
    arguments = gpu("LSTM", options)
    assert price_by_name(CUDNN, proj_size=4, **arguments) == forward
    assert price_by_name(CUDNN_BACKWARD, proj_size=4, output_mask=[True] * 4, **arguments).macs == backward.macs


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_the_cpu_kernel_of_an_lstm_counts_what_its_steps_do(options):
    forward, backward = decomposed("LSTM", options)
    module, x = build("LSTM", **options), torch.ones(STEPS, BATCH, INPUTS, requires_grad=True)
    hx = state("LSTM", "cpu", options, grad=True)
    with torch.no_grad():
        fused = seen(module, x, hx)
    layers = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    assert fused.calls["aten.mkldnn_rnn_layer.default"] == layers
    assert fused.total == forward
    out, _ = module(x, hx)
    assert seen(out.sum().backward).costs["aten.mkldnn_rnn_layer_backward.default"].macs == backward.macs


def test_the_metal_kernel_counts_the_same():
    forward, backward = decomposed("LSTM", {"num_layers": 2})
    x, hx = torch.ones(STEPS, BATCH, INPUTS), state("LSTM", "cpu", {"num_layers": 2})
    flags = {"has_biases": True, "num_layers": 2, "dropout": 0.0, "train": True, "bidirectional": False}
    assert price_by_name(aten._lstm_mps.default, input=x, hx=hx, **flags) == forward
    assert price_by_name(aten.lstm_mps_backward.default, input=x, hx=hx, z_state=x, **flags).macs == backward.macs


def test_a_packed_sequence_counts_its_valid_steps_only():
    lengths = [4, 2, 1]
    packed = nn.utils.rnn.pack_padded_sequence(torch.ones(4, 3, INPUTS), torch.tensor(lengths))
    with torch.no_grad():
        counted = seen(build("LSTM"), packed)
        alone = [seen(build("LSTM"), torch.ones(length, 1, INPUTS)).total for length in lengths]
    assert counted.total.macs == sum(cost.macs for cost in alone)


def test_a_fused_cell_counts_what_surrounds_its_two_products():
    x, h, c = torch.ones(BATCH, INPUTS), torch.ones(BATCH, HIDDEN), torch.ones(BATCH, HIDDEN)
    bias = torch.ones(4 * HIDDEN)
    lstm = seen(nn.LSTMCell(INPUTS, HIDDEN), x, (h, c)).total
    fused = price_by_name(aten._thnn_fused_lstm_cell.default, cx=c, input_bias=bias, hidden_bias=bias)
    assert fused == Cost(arith=lstm.arith)
    gru = seen(nn.GRUCell(INPUTS, HIDDEN), x, h).total
    fused = price_by_name(aten._thnn_fused_gru_cell.default, hx=h, input_bias=bias, hidden_bias=bias)
    assert fused == Cost(arith=gru.arith)
    # six products, a sum, three derivatives of sigmoid and two of tanh at three operations each; a sum for the bias
    backward = aten._thnn_fused_lstm_cell_backward_impl.default
    assert price_by_name(backward, cx=c, has_bias=True) == Cost(arith=(6 + 1 + 9 + 6 + 4) * c.numel())
    assert price_by_name(backward, cx=c, has_bias=False) == Cost(arith=(6 + 1 + 9 + 6) * c.numel())


@pytest.mark.filterwarnings("ignore")
def test_a_dynamically_quantized_lstm_counts_what_the_float_one_does():
    module = nn.Sequential(nn.LSTM(INPUTS, HIDDEN, 2))
    quantized = torch.ao.quantization.quantize_dynamic(module, {nn.LSTM})
    x = torch.ones(STEPS, BATCH, INPUTS)
    with torch.no_grad():
        assert seen(quantized, x).total.macs == seen(module, x).total.macs
