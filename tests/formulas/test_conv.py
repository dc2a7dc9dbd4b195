"""Convolutions of every rank, form and kernel, against loops over their windows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter
from opcount.cost import Cost
from tests.formulas.oracle import Meter, convolution, integers, price, price_of, transposed_convolution, values

aten = torch.ops.aten
small = settings(deadline=None, max_examples=20)
FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@st.composite
def cases(draw, ranks=(1, 2, 3)):
    """Draw an input, a weight and options; ``per_group`` channels go in and out of each group."""
    rank = draw(st.sampled_from(ranks))
    several = lambda low, high: draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))
    groups, per_group_in, per_group_out = (draw(st.integers(1, 2)) for _ in range(3))
    kernel, dilation = several(1, 2), several(1, 2)
    room = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sizes = [r + extra for r, extra in zip(room, several(0, 2), strict=True)]
    x = integers(draw(st.integers(1, 2)), groups * per_group_in, *sizes)
    weight = integers(groups * per_group_out, per_group_in, *kernel)
    spread = integers(groups * per_group_in, per_group_out, *kernel)
    return x, weight, spread, several(1, 2), several(0, 1), dilation, groups


@given(case=cases(), biased=st.booleans())
@small
def test_a_convolution_multiplies_as_often_as_its_definition(case, biased):
    x, weight, _, stride, padding, dilation, groups = case
    meter = Meter()
    expected = values(convolution(meter.read(x), meter.read(weight), stride, padding, dilation, groups))
    bias = integers(len(weight)) if biased else None
    with OpCounter(strict=True) as counter:
        out = FORWARD[x.dim() - 2](x, weight, bias, stride, padding, dilation, groups)
    if biased:
        expected += bias.reshape(-1, *[1] * (x.dim() - 2))
    assert torch.equal(out, expected)
    (total,) = [total for total in counter.by_operator().values() if total.macs]
    assert (total.macs, total.arith, total.activations) == (meter.products, out.numel() * biased, out.numel())


@given(case=cases(), biased=st.booleans())
@small
def test_a_transposed_convolution_multiplies_as_often_as_its_definition(case, biased):
    x, _, weight, stride, _, dilation, groups = case
    padding = [0] * (x.dim() - 2)
    meter = Meter()
    expected = values(transposed_convolution(meter.read(x), meter.read(weight), stride, padding, dilation, groups))
    bias = integers(expected.shape[1]) if biased else None
    with OpCounter(strict=True) as counter:
        out = TRANSPOSED[x.dim() - 2](x, weight, bias, stride, padding, 0, groups, dilation)
    if biased:
        expected += bias.reshape(-1, *[1] * (x.dim() - 2))
    assert torch.equal(out, expected)
    (total,) = [total for total in counter.by_operator().values() if total.macs]
    assert (total.macs, total.arith, total.activations) == (meter.products, out.numel() * biased, out.numel())


@pytest.mark.parametrize("grad", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"padding": "valid"}, {"padding": 1, "stride": 2}, {"dilation": 2}]
)
def test_a_convolution_counts_the_same_with_and_without_gradients(grad, options):
    x, weight = torch.randn(2, 3, 7, 7), torch.randn(4, 3, 3, 3)
    with grad(), OpCounter(strict=True) as counter:
        out = F.conv2d(x, weight, **options)
    meter = Meter()
    padding = {"same": 1, "valid": 0}.get(options.get("padding"), options.get("padding", 0))
    arrays = meter.read(x), meter.read(weight)
    convolution(*arrays, [options.get("stride", 1)] * 2, [padding] * 2, [options.get("dilation", 1)] * 2, 1)
    assert (counter.macs, counter.activations) == (meter.products, out.numel())


def test_without_a_batch_a_convolution_counts_one_sample():
    x, weight, spread = torch.randn(4, 9), torch.randn(6, 4, 3), torch.randn(4, 6, 3)
    with OpCounter() as one, torch.no_grad():
        F.conv1d(x, weight)
        F.conv_transpose1d(x, spread)
    with OpCounter() as batch, torch.no_grad():
        F.conv1d(torch.stack([x, x, x]), weight)
        F.conv_transpose1d(torch.stack([x, x, x]), spread)
    products = 4 * 3 * (6 * 7 + 6 * 9)  # of 7 outputs that fit, and of 9 inputs that are spread
    assert (one.macs, batch.macs) == (products, 3 * products)


@given(case=cases())
@small
def test_a_grouped_convolution_times_its_groups_is_a_dense_one(case):
    x, weight, _, stride, padding, dilation, groups = case
    dense = torch.randn(weight.shape[0], weight.shape[1] * groups, *weight.shape[2:]).double()
    run = FORWARD[x.dim() - 2]
    with OpCounter() as grouped_count:
        run(x, weight, None, stride, padding, dilation, groups)
    with OpCounter() as dense_count:
        run(x, dense, None, stride, padding, dilation, 1)
    assert groups * grouped_count.macs == dense_count.macs


@given(case=cases())
@small
def test_a_transposed_convolution_is_the_input_gradient_of_the_convolution(case):
    x, weight, _, stride, padding, dilation, groups = case
    x.requires_grad_()
    out = FORWARD[x.dim() - 2](x, weight, None, stride, padding, dilation, groups)
    with OpCounter() as backward:
        out.sum().backward()
    with OpCounter() as transposed:
        TRANSPOSED[x.dim() - 2](out.detach(), weight, None, stride, padding, 0, groups, dilation)
    assert backward.macs == transposed.macs == out.numel() * weight[0].numel()


@pytest.mark.parametrize("mask", [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
@pytest.mark.parametrize("transposed", [False, True])
@given(case=cases(ranks=(2,)))
@settings(deadline=None, max_examples=4)
def test_convolution_backward_multiplies_for_each_gradient_asked_for(mask, transposed, case):
    x, weight, spread, stride, _, dilation, groups = case
    meter, used = Meter(), spread if transposed else weight
    program = transposed_convolution if transposed else convolution
    out = values(program(meter.read(x), meter.read(used), stride, [0, 0], dilation, groups))
    options = ([out.shape[1]], stride, [0, 0], dilation, transposed, [0, 0], groups, mask)
    # Each gradient multiplies the pairs of the forward once: dx += weight * dout, dweight += x * dout.
    expected = Cost(meter.products * (mask[0] + mask[1]), out.numel() * mask[2], 0)
    assert price(aten.convolution_backward.default, torch.ones_like(out), x, used, *options) == expected


def test_the_weight_gradient_of_a_depthwise_convolution_is_divided_by_the_groups():
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    with OpCounter() as forward:
        out = layer(x)
    with OpCounter() as backward:
        out.sum().backward()
    assert forward.macs == 8 * 8 * 8 * 3 * 3
    assert backward.macs == 2 * forward.macs


MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("convolve", [F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d])
def test_a_complex_convolution_runs_as_three_real_ones_and_counts_as_such(convolve, mode):
    rank = int(convolve.__name__[-2])
    x, weight = torch.randn(2, 3, *[5] * rank), torch.randn(3, 3, *[2] * rank)
    counts = []
    for kind in (torch.float32, torch.complex64):
        with mode(), OpCounter() as counter:
            convolve(x.to(kind), weight.to(kind))
        counts.append((counter.macs, counter.by_operator()["aten.convolution.default"].calls))
    (real, once), (complex_, thrice) = counts
    assert (once, thrice) == (1, 3)
    assert complex_ == 3 * real


def test_the_gradients_of_a_complex_convolution_are_those_of_three_real_ones():
    x, weight = torch.randn(2, 3, 5, dtype=torch.cfloat), torch.randn(4, 3, 2, dtype=torch.cfloat)
    with OpCounter() as counter:
        F.conv1d(x.requires_grad_(), weight.requires_grad_()).abs().sum().backward()
    # 3 real convolutions of 2 x 4 x 4 outputs and 3 x 2 taps; forward, and a gradient for input and weight
    assert counter.macs == 3 * 3 * (2 * 4 * 4) * (3 * 2)


def test_a_complex_product_counts_four_real_ones_beside_them():
    a, b = torch.randn(2, 3, dtype=torch.cfloat), torch.randn(3, 5, dtype=torch.cfloat)
    with OpCounter() as counter:
        a @ b
    assert counter.macs == 4 * 2 * 3 * 5


def test_a_complex_convolution_that_arrives_whole_is_four_real_ones():
    x, weight = torch.randn(2, 3, 5), torch.randn(4, 3, 2)
    options = (None, [1], [0], [1], False, [0], 1)
    out = F.conv1d(x, weight)
    real = price_of(aten.convolution.default, out, x, weight, *options)
    whole = price_of(aten.convolution.default, out.cfloat(), x.cfloat(), weight.cfloat(), *options)
    assert whole.macs == 4 * real.macs


def test_conv_tbc_is_a_convolution_over_time_with_channels_last():
    x, weight, bias = integers(7, 2, 3), integers(4, 3, 5), integers(5)
    meter = Meter()
    expected = values(
        convolution(meter.read(x.permute(1, 2, 0)), meter.read(weight.permute(2, 1, 0)), [1], [1], [1], 1)
    )
    out = aten.conv_tbc(x, weight, bias, 1)
    assert torch.equal(out, expected.permute(2, 0, 1) + bias)
    assert price(aten.conv_tbc.default, x, weight, bias, 1) == Cost(meter.products, out.numel(), out.numel())
    backward = price(aten.conv_tbc_backward.default, torch.ones_like(out), x, weight, bias, 1)
    assert backward == Cost(2 * meter.products, out.numel(), 0)


PLAIN = ([1, 1], [1, 1], [1, 1], 1)  # padding, stride, dilation, groups
KERNELS = {
    # name: (arguments after the weight, operations for each output besides the product)
    "cudnn_convolution": ((*PLAIN, False, False, True), 0),
    "miopen_convolution": (("bias", *PLAIN, False, False), 1),
    "_mps_convolution": ((None, *PLAIN), 0),
    "mkldnn_convolution": (("bias", *PLAIN), 1),
    "cudnn_convolution_relu": (("bias", *PLAIN), 2),
    "cudnn_convolution_add_relu": (("out", 1.0, "bias", *PLAIN), 3),
    "miopen_convolution_add_relu": (("out", 1.0, None, *PLAIN), 2),
    "_slow_conv2d_forward": (([3, 3], "bias", [1, 1], [1, 1]), 1),
    "slow_conv_dilated2d": (([3, 3], None, [1, 1], [1, 1]), 0),
    "convolution_overrideable": (("bias", [1, 1], [1, 1], [1, 1], False, [0, 0], 1), 1),
    "_convolution": ((None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True, True), 0),
}


@pytest.mark.parametrize("name", KERNELS)
def test_every_backend_counts_what_the_others_do(name):
    x, weight, bias = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3), torch.randn(4)
    out = F.conv2d(x, weight, bias, padding=1)
    with OpCounter() as counter:
        F.conv2d(x, weight, padding=1)
    named = {"bias": bias, "out": out}
    arguments, epilogue = KERNELS[name]
    arguments = [named.get(a, a) if isinstance(a, str) else a for a in arguments]
    operator = getattr(aten, name).default
    expected = Cost(counter.macs, out.numel() * epilogue, out.numel())
    assert price_of(operator, out, x, weight, *arguments) == expected


TRANSPOSED_KERNELS = {
    "cudnn_convolution_transpose": (([1, 1], [0, 0], [2, 2], [1, 1], 1, False, False, True), 0),
    "miopen_convolution_transpose": (("bias", [1, 1], [0, 0], [2, 2], [1, 1], 1, False, False), 1),
    "_mps_convolution_transpose": (([1, 1], [0, 0], [2, 2], [1, 1], 1), 0),
    "slow_conv_transpose2d": (([3, 3], "bias", [2, 2], [1, 1]), 1),
}


@pytest.mark.parametrize("name", TRANSPOSED_KERNELS)
def test_every_transposing_backend_counts_what_the_others_do(name):
    x, weight, bias = torch.randn(2, 3, 5, 5), torch.randn(3, 4, 3, 3), torch.randn(4)
    with OpCounter() as counter:
        out = F.conv_transpose2d(x, weight, stride=2, padding=1)
    arguments, epilogue = TRANSPOSED_KERNELS[name]
    arguments = [bias if a == "bias" else a for a in arguments]
    expected = Cost(counter.macs, out.numel() * epilogue, out.numel())
    assert price_of(getattr(aten, name).default, out, x, weight, *arguments) == expected


def test_the_backwards_of_other_backends_count_what_convolution_backward_does():
    x, weight = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3)
    out, mask = F.conv2d(x, weight), [True, True, True]
    options = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)
    expected = price(aten.convolution_backward.default, out, x, weight, [4], *options)
    assert price_of(aten.convolution_backward_overrideable.default, None, out, x, weight, *options) == expected
    mps = (x, out, weight, [0, 0], [1, 1], [1, 1], 1, mask)
    assert price_of(aten.mps_convolution_backward.default, None, *mps) == expected
    slow = (out, x, weight, [3, 3], [1, 1], [0, 0], mask)
    assert price_of(aten._slow_conv2d_backward.output_mask, None, *slow) == expected
    written = {"grad_input": x, "grad_weight": weight, "grad_bias": out[0, :, 0, 0]}
    assert price_of(aten._slow_conv2d_backward.grad_input, None, *slow[:-1], **written) == expected


def test_the_backward_of_a_transposed_convolution_on_mps_counts_its_two_gradients():
    x, weight = torch.randn(2, 3, 5, 5), torch.randn(3, 4, 3, 3)
    out = F.conv_transpose2d(x, weight)
    options = (out, [0, 0], [0, 0], [1, 1], [1, 1], 1, [True, True])
    cost = price_of(aten.mps_convolution_transpose_backward.default, None, x, options[0], weight, *options[1:])
    assert cost == Cost(2 * x.numel() * 4 * 3 * 3)


def test_fused_pointwise_operators_count_their_epilogue():
    x, weight, bias = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3), torch.randn(4)
    with OpCounter() as counter:
        out = F.conv2d(x, weight, padding=1)
    n, fused = out.numel(), torch.ops.mkldnn._convolution_pointwise
    one = price(fused.default, x, weight, bias, *PLAIN, "relu", [], "")
    assert one == Cost(counter.macs, 2 * n, n)
    two = price(fused.binary, x, out, weight, bias, *PLAIN, "add", 1.0, "relu", [], "")
    assert two == Cost(counter.macs, 3 * n, n)
    in_place = torch.ops.mkldnn._convolution_pointwise_.binary
    assert price(in_place, out, x, weight, None, *PLAIN, "add", 1.0, "relu", [], "") == Cost(counter.macs, 2 * n, n)
