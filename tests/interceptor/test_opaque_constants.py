"""Native code that fills memory which held known numbers: it is named also where operators go on from there."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import nn

from opcount import OpCounter

pytestmark = pytest.mark.filterwarnings("ignore:.*no formula")

X = torch.arange(10.0).reshape(2, 5) + 1

PUT = {
    "zeros": lambda _: torch.zeros(2, 5),
    "zeros_like": torch.zeros_like,
    "new_zeros": lambda x: x.new_zeros(2, 5),
    "ones": lambda _: torch.ones(2, 5),
    "full": lambda _: torch.full((2, 5), 7.0),
    "new_full": lambda x: x.new_full((2, 5), 0.5),
    "nan": lambda _: torch.full((2, 5), float("nan")),
    "fill_": lambda _: torch.empty(2, 5).fill_(2),
    "zero_": lambda _: torch.empty(2, 5).zero_(),
    "numbers": lambda _: torch.tensor([[0.0] * 5] * 2),
    "a copy": torch.clone,
    "integers": lambda _: torch.full((2, 5), 3, dtype=torch.int32),
    "bytes": lambda _: torch.zeros(40, dtype=torch.uint8),
}

USE = {
    "as it is": lambda out: out,
    "a part": lambda out: out[:1],
    "a view": lambda out: out.view(-1),
    "scaled": lambda out: out * 2,
    "summed": lambda out: out.sum(),
    "cast": lambda out: out.double(),
    "added to": lambda out: torch.ones(()) + out,
    "joined": lambda out: torch.cat([out, out]),
    "written elsewhere": lambda out: torch.empty_like(out).copy_(out),
}


def native(tensor):
    """Write to an address, as a compiled kernel does."""
    ctypes.memset(tensor.data_ptr(), 0x3F, tensor.numel() * tensor.itemsize)


def function(put, write, use):
    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            out = put(x)
            write(out)
            return use(out)

        @staticmethod
        def backward(_ctx, _grad):
            return None

    return Probe


def uncounted(put, write, use):
    with OpCounter() as c:
        function(put, write, use).apply(X)
    return list(c.coverage.uncounted)


@pytest.mark.parametrize("use", USE)
@pytest.mark.parametrize("put", PUT)
def test_native_code_that_replaces_known_numbers_is_named(put, use):
    assert uncounted(PUT[put], native, USE[use]) == ["autograd.Probe"]


@pytest.mark.parametrize("use", ["scaled", "summed", "added to"])
@pytest.mark.parametrize("put", PUT)
def test_known_numbers_that_stay_what_they_were_are_not(put, use):
    assert uncounted(PUT[put], lambda out: None, USE[use]) == []


@pytest.mark.parametrize("use", USE)
@pytest.mark.parametrize(
    "write",
    [
        lambda out: out.add_(1),
        lambda out: out[0].copy_(out[1] + 1),
        lambda out: out.view(-1).scatter_(0, torch.tensor([1]), torch.ones(1, dtype=out.dtype)),
        lambda out: torch.add(out, 1, out=out),
        lambda out: out.index_put_((torch.tensor([0]),), torch.ones((), dtype=out.dtype)),
        lambda out: torch._foreach_add_([out], 1),
    ],
)
@pytest.mark.parametrize("put", ["zeros", "full", "numbers", "a copy", "integers"])
def test_operators_that_replace_known_numbers_explain_them(put, write, use):
    assert uncounted(PUT[put], write, USE[use]) == []


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm1d(5),
        nn.LazyBatchNorm1d,
        lambda: nn.BatchNorm1d(5, momentum=None, affine=False),
        lambda: nn.InstanceNorm1d(5, track_running_stats=True),
    ],
)
def test_statistics_of_a_norm_that_is_made_inside_are_explained(norm, training):
    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            made = norm().train(training)
            return made(made(x)) * 2

        @staticmethod
        def backward(_ctx, _grad):
            return None

    with OpCounter() as c:
        Probe.apply(X.expand(3, 2, 5).mT)
    assert list(c.coverage.uncounted) == []


@pytest.mark.parametrize("put", ["zeros", "numbers", "a copy"])
def test_native_code_in_a_backward_is_named_where_operators_go_on(put):
    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return x * 2

        @staticmethod
        def backward(_ctx, grad):
            out = PUT[put](grad)
            native(out)
            return out * grad

    with OpCounter() as c:
        Probe.apply(X.clone().requires_grad_()).sum().backward()
    assert list(c.coverage.uncounted) == ["autograd.ProbeBackward"]
