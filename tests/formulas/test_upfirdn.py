"""Filters between two samplings, against loops that count, and StyleGAN 3's classes as mmcv has them."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from opcount import OpCounter
from opcount.errors import FormulaError
from opcount.registry import BUILTIN
from tests import shims
from tests.formulas.functions import backward, forward
from tests.formulas.oracle import Meter, Number

pytestmark = pytest.mark.filterwarnings("ignore")  # what mmcv does when it is imported


FILTERS = [
    # up, down, pads, filter
    ((1, 1), (1, 1), (1, 1, 1, 1), (3, 3)),
    ((2, 2), (1, 1), (2, 1, 2, 1), (4, 4)),
    ((1, 1), (2, 2), (1, 1, 1, 1), (4, 4)),
    ((2, 1), (1, 3), (1, 2, 0, 1), (3, 4)),
    ((3, 2), (2, 1), (0, 1, 2, 2), (5, 2)),
]


def upfirdn(x, taps, up, down, pad):
    """Filter by taps that meet an element, or the padding where one would be; return the values and the products."""
    meter = Meter()
    (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1) = up, down, pad
    planes, (height, width) = meter.read(x), x.shape[2:]
    h = (height * up_y + y0 + y1 - len(taps)) // down_y + 1
    w = (width * up_x + x0 + x1 - taps.shape[1]) // down_x + 1
    weights, result = meter.read(taps), torch.zeros(*x.shape[:2], h, w, dtype=torch.double)
    for n, c, i, j in product(*map(range, result.shape)):
        total = Number(0.0, meter)
        for s, t in product(*map(range, taps.shape)):
            (y, rest_y), (z, rest_x) = divmod(i * down_y + s - y0, up_y), divmod(j * down_x + t - x0, up_x)
            if rest_y or rest_x:
                continue
            inside = 0 <= y < height and 0 <= z < width
            total = total + weights[s, t] * (planes[n, c, y, z] if inside else Number(0.0, meter))
        result[n, c, i, j] = total.value
    return result, meter.products


def by_convolution(x, taps, up, down, pad):
    """Do the same with zeros between the elements and a convolution, as the libraries do without their kernel."""
    spread = x.new_zeros(*x.shape[:2], x.shape[2] * up[1], x.shape[3] * up[0])
    spread[:, :, :: up[1], :: up[0]] = x
    spread = functional.pad(spread, pad)
    weight = taps.expand(x.shape[1], 1, *taps.shape)
    return functional.conv2d(spread, weight, groups=x.shape[1])[:, :, :: down[1], :: down[0]]


@pytest.mark.parametrize(("up", "down", "pad", "size"), FILTERS)
def test_a_resampling_filter_counts_the_taps_that_meet_an_element(up, down, pad, size):
    x, taps = torch.rand(1, 2, 5, 6, dtype=torch.double), torch.rand(size, dtype=torch.double)
    out, macs = upfirdn(x, taps, up, down, pad)
    assert torch.allclose(out, by_convolution(x, taps, up, down, pad))
    assert forward("UpFirDn2d", out, x, taps, up, down, pad) == (macs, 0, out.numel())


@pytest.mark.parametrize(("up", "down", "pad", "size"), FILTERS)
def test_its_gradient_is_the_filter_with_up_and_down_exchanged(up, down, pad, size):
    x, taps = torch.rand(1, 2, 5, 6, dtype=torch.double, requires_grad=True), torch.rand(size, dtype=torch.double)
    out = by_convolution(x, taps, up, down, pad)
    grad = torch.rand_like(out)
    (expected,) = torch.autograd.grad(out, x, grad)
    (x0, _, y0, _), (height, width) = pad, x.shape[2:]
    before = [taps.shape[1] - x0 - 1, 0, len(taps) - y0 - 1, 0]
    before[1] = width * up[0] - grad.shape[3] * down[0] + x0 - up[0] + 1
    before[3] = height * up[1] - grad.shape[2] * down[1] + y0 - up[1] + 1
    found, macs = upfirdn(grad, taps.flip(0, 1), down, up, before)
    assert torch.allclose(found, expected)
    assert backward("UpFirDn2d", out, x, taps, up, down, pad) == (macs, 0, 0)
    own = (grad, taps, taps.flip(0, 1), up, down, pad, before, x.shape, grad.shape[2:])
    assert forward("UpFirDn2dBackward", expected, *own).macs == macs


def of_class(function, suffix=""):
    """Return the formula of one class."""
    return BUILTIN.find([f"autograd.{function.__name__}{suffix}"])[0].price.of(function)


@pytest.fixture(scope="module")
def ops():
    pytest.importorskip("mmcv")
    shims.install()
    return import_module("mmcv.ops")


@pytest.mark.parametrize(("up", "down", "pad", "size"), FILTERS)
@pytest.mark.parametrize("separable", [False, True])
def test_a_class_for_its_options_counts_as_the_options_say(ops, up, down, pad, size, separable):
    module = import_module("mmcv.ops.upfirdn2d")
    x, taps = torch.rand(1, 2, 5, 6, dtype=torch.double), torch.rand(size, dtype=torch.double)
    function = module._upfirdn2d_cuda(up=list(up), down=list(down), padding=list(pad))
    if not separable:
        out, macs = upfirdn(x, taps, up, down, pad)
        assert of_class(function)(out, x, taps) == (macs, 0, out.numel())
        return
    taps = taps[0]
    between, first = upfirdn(x, taps[None], (up[0], 1), (down[0], 1), (*pad[:2], 0, 0))
    out, second = upfirdn(between, taps[:, None], (1, up[1]), (1, down[1]), (0, 0, *pad[2:]))
    assert of_class(function)(out, x, taps) == (first + second, 0, between.numel() + out.numel())


def test_without_taps_a_class_has_one():
    pytest.importorskip("mmcv")
    shims.install()
    module = import_module("mmcv.ops.upfirdn2d")
    x = torch.rand(1, 2, 4, 4)
    function = module._upfirdn2d_cuda(up=1, down=2)
    assert of_class(function)(x[:, :, ::2, ::2], x, None) == (8, 0, 8)


@pytest.mark.parametrize(("up", "down", "pad", "size"), FILTERS)
def test_a_class_and_the_function_with_options_have_one_gradient(ops, up, down, pad, size):
    module = import_module("mmcv.ops.upfirdn2d")
    x, taps = torch.rand(1, 2, 5, 6, dtype=torch.double), torch.rand(size, dtype=torch.double)
    out, _ = upfirdn(x, taps, up, down, pad)
    function = module._upfirdn2d_cuda(up=list(up), down=list(down), padding=list(pad))
    assert of_class(function, "Backward")(out, x, taps) == backward("UpFirDn2d", out, x, taps, up, down, pad)


@pytest.mark.parametrize(("act", "gain", "clamp"), [("linear", 1, None), ("lrelu", None, None), ("swish", None, 0.5)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_class_of_activations_counts_what_its_fallback_does(ops, act, gain, clamp, biased):
    module = import_module("mmcv.ops.bias_act")
    x, bias = torch.rand(2, 3, 4, 4), torch.rand(3) if biased else None
    function = module._bias_act_cuda(dim=1, act=act, gain=gain, clamp=clamp)
    with OpCounter() as counter:
        module._bias_act_ref(x, bias, 1, act, None, gain, clamp)
    swish = x.numel() if act == "swish" else 0  # a product of its own there
    assert of_class(function)(x, x, bias).arith == counter.profile.total.arith - swish


def test_its_gradient_counts_one_more_and_a_sum(ops):
    module = import_module("mmcv.ops.bias_act")
    x, bias = torch.rand(2, 3, 4, 4), torch.rand(3, requires_grad=True)
    function = module._bias_act_cuda(dim=1, act="lrelu", clamp=0.5)
    assert of_class(function, "Backward")(x, x, bias).arith == (3 + 1 + 1) * x.numel()
    linear = module._bias_act_cuda(dim=1, act="linear")
    assert of_class(linear, "Backward")(x, x, bias).arith == x.numel()


@pytest.mark.parametrize(("up", "down", "clamp"), [(2, 2, None), (1, 2, 0.5), (4, 1, None)])
@pytest.mark.parametrize("separable", [True, False])
def test_an_activation_between_filters_is_the_sum_of_its_parts(ops, up, down, clamp, separable):
    module = import_module("mmcv.ops.filtered_lrelu")
    x, bias = torch.rand(1, 2, 6, 6), torch.rand(2, requires_grad=True)
    pads, rank = (3, 2, 1, 4), 1 if separable else 2
    above, below = torch.rand((4,) * rank), torch.rand((3,) * rank)
    function = module._filtered_lrelu_cuda(up=up, down=down, padding=list(pads), clamp=clamp)
    resample = import_module("mmcv.ops.upfirdn2d")
    with torch.no_grad():
        between = resample._upfirdn2d_ref(x, above, up=up, padding=list(pads))
        out = resample._upfirdn2d_ref(between, below, down=down)
    first = of_class(resample._upfirdn2d_cuda(up=up, padding=list(pads)))
    second = of_class(resample._upfirdn2d_cuda(down=down))
    each = 2 + (clamp is not None)
    cost = of_class(function)(out, x, above, below, bias, None, 0, 0)
    parts = first(between, x, above) + second(out, between, below)
    assert cost == parts._replace(arith=x.numel() + each * between.numel())
    back = of_class(function, "Backward")(out, x, above, below, bias, None, 0, 0)
    assert back.arith == x.numel() + 2 * between.numel()


def test_a_class_of_activations_without_options_activates_and_scales():
    class BiasActCuda(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, b):
            return x

    x, bias = torch.rand(2, 3), torch.rand(3)
    assert of_class(BiasActCuda)(x, x, bias).arith == 3 * x.numel()


def test_a_class_with_other_options_is_refused():
    class Upfirdn2dCuda(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, f):
            return x

    x = torch.rand(1, 2, 4, 4)
    with pytest.raises(FormulaError):
        of_class(Upfirdn2dCuda)(x, x, None)
    with pytest.raises(FormulaError):
        forward("Upfirdn2dCuda", x, x, None)


def test_a_call_of_a_class_is_counted_forward_and_backward(ops, monkeypatch):
    module = import_module("mmcv.ops.upfirdn2d")

    def kernel(x, taps, up_x, up_y, down_x, down_y, x0, x1, y0, y1, *_):
        h = (x.shape[2] * up_y + y0 + y1 - taps.shape[0]) // down_y + 1
        w = (x.shape[3] * up_x + x0 + x1 - taps.shape[1]) // down_x + 1
        return x.new_empty(*x.shape[:2], h, w)

    monkeypatch.setattr(module, "ext_module", SimpleNamespace(upfirdn2d=kernel))
    x, taps = torch.rand(1, 2, 5, 6, requires_grad=True), torch.rand(4, 4)
    function = module._upfirdn2d_cuda(up=2, padding=[2, 1, 2, 1])
    with OpCounter(strict=True) as counter:
        function.apply(x, taps).sum().backward()
    by = counter.by_operator()
    macs = 2 * 10 * 12 * 4  # two of four taps meet an element, along both dimensions
    assert by["autograd.Upfirdn2dCuda"].macs == macs
    assert by["autograd.Upfirdn2dCudaBackward"].macs == 2 * 5 * 6 * 16
