"""The same program counts the same on real, meta and fake tensors, and grows linearly with the batch."""

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter

PROGRAMS = {
    "products": lambda x: torch.bmm(x, x.mT) @ x,
    "linear": lambda x: F.linear(x, x.new_ones(5, 6), x.new_ones(5)),
    "bilinear": lambda x: F.bilinear(x, x, x.new_ones(3, 6, 6)),
    "convolution": lambda x: F.conv1d(x, x.new_ones(4, 2, 3), groups=2),
    "transposed convolution": lambda x: F.conv_transpose1d(x, x.new_ones(4, 2, 3), stride=2),
    "norms": lambda x: F.layer_norm(F.group_norm(F.batch_norm(x, None, None, training=True), 2), (6,)),
    "pools": lambda x: F.adaptive_avg_pool2d(F.avg_pool2d(F.max_pool2d(x[:, None], 2, 1), 2, 1), 1),
    "resampling": lambda x: F.interpolate(F.interpolate(x[:, None], scale_factor=2), size=(3, 3), mode="bilinear"),
    "attention": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None]),
}


def totals(program, x):
    with OpCounter() as counter:
        out = program(x)
        out.sum().backward()
    return counter.macs, counter.flops, counter.activations, {p: t.macs for p, t in counter.by_phase().items()}


def sample(batch, **options):
    return torch.randn(batch, 4, 6, requires_grad=True, **options)


@pytest.mark.parametrize("name", PROGRAMS)
def test_meta_and_fake_tensors_count_what_real_ones_do(name):
    program = PROGRAMS[name]
    real = totals(program, sample(3))
    with FakeTensorMode():
        assert totals(program, sample(3)) == real
    meta = totals(program, sample(3, device="meta"))
    # Backward, fused attention computes its scores anew; on meta tensors there is no fused kernel.
    assert meta[2] == real[2]
    assert name == "attention" or meta == real


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_count_is_linear_in_the_batch(name):
    one, two, three = (totals(PROGRAMS[name], sample(n))[:3] for n in (1, 2, 3))
    assert [c - b for b, c in zip(two, three, strict=True)] == [b - a for a, b in zip(one, two, strict=True)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_count_changes_neither_output_nor_gradient(name):
    program, x = PROGRAMS[name], sample(2)
    expected = torch.autograd.grad((out := program(x)).sum(), x)[0]
    with OpCounter():
        counted = program(x)
        gradient = torch.autograd.grad(counted.sum(), x)[0]
    assert torch.equal(counted, out)
    assert torch.equal(gradient, expected)


def test_linear_layers_of_a_network_count_what_the_products_do():
    net = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 10))
    with OpCounter(net) as counter:
        net(torch.randn(1, 10))
    assert (counter.flops, counter.activations) == (4 * 10 * 10, 4 * 10)
