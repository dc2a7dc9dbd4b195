"""Selective scans and short convolutions, against loops that count and against the slow path of transformers."""

from __future__ import annotations

from itertools import product
from math import exp

import pytest
import torch

from opcount import Cost, OpCounter
from opcount.errors import FormulaError
from opcount.registry import BUILTIN
from tests.formulas.functions import backward, count, forward, stand_in, wanting
from tests.formulas.oracle import Meter, Number
from tests.shims import define_torchvision_operators

define_torchvision_operators()
modeling_mamba = pytest.importorskip("transformers.models.mamba.modeling_mamba")

SIZES = [(1, 2, 3, 4), (2, 3, 5, 1)]


def scan_arguments(b, d, l, n):  # noqa: E741
    torch.manual_seed(0)
    u, delta, z = torch.rand(3, b, d, l)
    return u, delta, -torch.rand(d, n), torch.rand(b, n, l), torch.rand(b, n, l), torch.rand(d), z, torch.rand(d)


def scanned(u, delta, a, b, c):
    """Run the recurrence; return the outputs, the products of ``C @ h``, and all other operations."""
    rest, macs = Meter(), Meter()
    x, dt, decay, into = (rest.read(t) for t in (u, delta, a, b))
    readout = macs.read(c)
    out = torch.zeros_like(u)
    for i, channel in product(*map(range, u.shape[:2])):
        states = [Number(0.0, rest)] * a.shape[1]
        for t in range(u.shape[2]):
            total = Number(0.0, macs)
            for n in range(a.shape[1]):
                kept = (dt[i, channel, t] * decay[channel, n]).apply(exp)
                new = dt[i, channel, t] * into[i, n, t] * x[i, channel, t]
                states[n] = kept * states[n] + new
                total = total + readout[i, n, t] * states[n].value
            out[i, channel, t] = total.value
    return out, macs.products, rest.operations


@pytest.mark.parametrize("sizes", SIZES)
def test_a_scan_counts_its_readout_and_six_for_each_number_of_the_state(sizes):
    u, delta, a, b, c, *_ = scan_arguments(*sizes)
    out, macs, arith = scanned(u, delta, a, b, c)
    assert torch.allclose(out, modeling_mamba.mamba_selective_scan(u, delta, a, b, c), atol=1e-6)
    assert forward("SelectiveScanFn", out, u, delta, a, b, c) == (macs, arith, u.numel())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_a_scan_counts_what_the_slow_path_of_transformers_does(sizes, skip, gate, biased):
    u, delta, a, b, c, d, z, bias = scan_arguments(*sizes)
    d, z, bias = d if skip else None, z if gate else None, bias if biased else None
    with OpCounter(strict=True) as counter:
        modeling_mamba.mamba_selective_scan(u, delta, a, b, c, D=d, z=z, delta_bias=bias, delta_softplus=biased)
    total = counter.profile.total
    cost = forward("SelectiveScanFn", u, u, delta, a, b, c, d, z, bias, biased, False)
    assert cost == (total.macs, total.arith, total.activations)
    assert cost.macs == u.numel() * a.shape[1]


def test_the_bias_of_vmamba_stands_where_mamba_has_its_gate():
    u, delta, a, b, c, d, _, bias = scan_arguments(*SIZES[0])
    expected = forward("SelectiveScanFn", u, u, delta, a, b, c, d, None, bias, True)
    for name in ("SelectiveScanCuda", "SelectiveScanOflex", "SelectiveScanCore", "SelectiveScanMamba"):
        assert forward(name, u, u, delta, a, b, c, d, bias, True, True, "oflex") == expected


def test_a_complex_state_is_read_by_four_real_macs():
    u, delta, a, b, c, *_ = scan_arguments(*SIZES[0])
    assert forward("SelectiveScanFn", u, u, delta, a.cfloat(), b, c).macs == 4 * u.numel() * a.shape[1]


def test_the_backward_of_a_scan_has_two_products_as_the_slow_path_has():
    u, delta, a, b, c, *_ = wanting(*scan_arguments(*SIZES[1]))
    out = modeling_mamba.mamba_selective_scan(u, delta, a, b, c)
    with OpCounter() as counter:
        out.sum().backward()
    assert backward("SelectiveScanFn", out, u, delta, a, b, c).macs == counter.macs


CONVOLUTIONS = [(None, None), (torch.rand(3), None), (torch.rand(3), "silu")]


@pytest.mark.parametrize(("bias", "activation"), CONVOLUTIONS)
def test_a_short_convolution_counts_its_width_for_each_input(bias, activation):
    x, weight = torch.rand(2, 3, 5), torch.rand(3, 4)
    meter = Meter()
    values, taps = meter.read(x), meter.read(weight)
    for n, c, t in product(*map(range, x.shape)):
        total = Number(0.0, meter)
        for i in range(4):
            total = total + taps[c, i] * (values[n, c, t - i] if t >= i else Number(0.0, meter))
    expected = Cost(meter.products, x.numel() * ((bias is not None) + (activation is not None)), x.numel())
    assert forward("CausalConv1dFn", x, x, weight, bias, None, None, False, None, activation) == expected
    assert forward("CausalConv1dFn", x, x, weight, bias, activation) == expected  # version 1.0
    operator = BUILTIN.find(["DaoAILab._causal_conv1d_fwd_cpp"])[0].price
    assert operator(None, x, weight, bias, None, None, x, None, activation is not None) == expected


def test_the_padded_convolution_of_the_slow_path_counts_the_columns_that_it_drops():
    x, weight = torch.rand(2, 3, 5), torch.rand(3, 4)
    with OpCounter() as counter:
        modeling_mamba.causal_conv1d_fn(x, weight, None, None)
    dropped = 2 * 3 * (4 - 1) * 4
    assert counter.macs == forward("CausalConv1dFn", x, x, weight).macs + dropped


@pytest.mark.parametrize("activation", [None, "silu"])
def test_the_gradients_that_are_wanted_count(activation):
    x, weight, bias = wanting(torch.rand(2, 3, 5), torch.rand(3, 4), torch.rand(3))
    macs, anew = x.numel() * 4, activation is not None
    args = (None, None, False, None, activation)
    expected = Cost((2 + anew) * macs, x.numel() * (1 + 3 * anew))
    assert backward("CausalConv1dFn", x, x, weight, bias, *args) == expected
    assert backward("CausalConv1dFn", x, x.detach(), weight, bias, *args).macs == (1 + anew) * macs
    operator = BUILTIN.find(["DaoAILab._causal_conv1d_bwd_cpp"])[0].price
    assert operator(None, x, weight, bias, x, None, None, None, x, weight, bias, x, anew) == expected


def layer(batch=2, length=6):
    config = modeling_mamba.MambaConfig(
        hidden_size=8, state_size=4, expand=2, conv_kernel=4, time_step_rank=3, use_conv_bias=True
    )
    mixer = modeling_mamba.MambaMixer(config, layer_idx=0).eval()
    hidden = torch.rand(batch, length, 8)
    return mixer, hidden, mixer.in_proj(hidden).transpose(1, 2)


def inner_arguments(mixer, xz):
    return (
        xz, mixer.conv1d.weight, mixer.conv1d.bias, mixer.x_proj.weight, mixer.dt_proj.weight, mixer.out_proj.weight,
        mixer.out_proj.bias, -mixer.A_log.exp(), None, None, mixer.D, mixer.dt_proj.bias, None, None, True, 1,
    )  # fmt: skip


def test_a_layer_counts_what_the_slow_path_does_but_for_padding_and_the_projection_before():
    mixer, hidden, xz = layer()
    with torch.no_grad(), OpCounter(mixer) as counter:
        mixer(hidden)
    modules = counter.by_module()
    width = mixer.conv1d.weight.shape[-1]
    dropped = 2 * 16 * (width - 1) * width
    cost = forward("MambaInnerFn", hidden, *inner_arguments(mixer, xz))
    assert cost.macs == modules[""].macs - modules["in_proj"].macs - dropped


def test_a_layer_is_the_sum_of_its_parts():
    mixer, hidden, xz = layer()
    whole = inner_arguments(mixer, xz)
    part = (*whole[:5], *whole[7:])
    tokens, channels = 2 * 6, 16
    out = forward("MambaInnerFn", hidden, *whole) + Cost(0)
    assert forward("MambaInnerFnNoOutProj", xz, *part).macs == out.macs - tokens * channels * 8
    back = backward("MambaInnerFn", hidden, *whole)
    conv, mixed, rank, scan = channels * 4, channels * (3 + 2 * 4), channels * 3, channels * 4
    once = {"conv": conv, "x_proj": mixed, "dt_proj": rank, "scan": scan, "out_proj": channels * 8}
    assert out.macs == tokens * sum(once.values())
    # Two gradients each; before that the convolution again, also before its SiLU, and the steps.
    assert back.macs == tokens * (2 * sum(once.values()) + 2 * conv + rank)
    assert backward("MambaInnerFn", hidden, *whole[:-1], 0).macs == back.macs - tokens * (conv + rank)
    assert backward("MambaInnerFnNoOutProj", xz, *part).macs == back.macs - 2 * tokens * channels * 8


def test_norms_of_a_layer_count_four_for_each_element():
    mixer, hidden, xz = layer()
    whole = inner_arguments(mixer, xz)
    weights = (torch.ones(4), torch.ones(4), torch.ones(16), 1e-6)
    more = forward("MambaInnerFn", hidden, *whole, *weights).arith - forward("MambaInnerFn", hidden, *whole).arith
    assert more == 4 * 2 * 6 * (4 + 4 + 16)


def test_a_layer_of_other_shapes_is_refused():
    mixer, hidden, xz = layer()
    with pytest.raises(FormulaError):
        forward("MambaInnerFn", hidden, xz[0], *inner_arguments(mixer, xz)[1:])


def test_a_call_is_counted_forward_and_backward():
    args = wanting(*scan_arguments(*SIZES[1]))
    counter = count(stand_in("SelectiveScanFn", lambda u, *_: u.shape, set(range(8))), *args, True, False)
    states = args[0].numel() * args[2].shape[1]
    by = counter.by_operator()
    assert (by["autograd.SelectiveScanFn"].macs, by["autograd.SelectiveScanFnBackward"].macs) == (states, 2 * states)
