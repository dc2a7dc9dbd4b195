"""Native code outside of a function shows where uninitialised memory is read, returned or kept."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter

pytestmark = pytest.mark.filterwarnings("ignore:.*no formula")

X = torch.arange(6.0).reshape(2, 3) + 1
W = torch.arange(12.0).reshape(3, 4) + 1


def native(out, *inputs):
    """Do as a compiled kernel does: write into memory, past every dispatcher."""
    out.detach().numpy()[...] = sum(float(np.tanh(i.detach().numpy()).sum()) for i in inputs) + 1
    return out


def counted(run, model=None):
    with OpCounter(model) as counter:
        kept = run()
    del kept
    return counter


def uncounted(run):
    return {name: share.calls for name, share in counted(run).coverage.uncounted.items()}


EMPTY = "native code into aten.empty.memory_format"
LIKE = "native code into aten.empty_like.default"

READ = {
    "by an operator": lambda out: out * 2,
    "by a product": lambda out: out @ W,
    "as a view": lambda out: out.t().reshape(-1) + 1,
    "as a copy": lambda out: out.clone().double() + 1,
    "concatenated": lambda out: torch.cat([X, out]) + 1,
    "in place": lambda out: out.add_(1),
    "a number": lambda out: float(out[0, 0]),
    "by two": lambda out: (out * 2, out * 3),
}


@pytest.mark.parametrize("name", READ)
def test_reading_memory_that_no_operator_wrote_is_named_once(name):
    assert uncounted(lambda: READ[name](native(torch.empty_like(X), X))) == {LIKE: 1}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_named_in_every_grad_mode(mode):
    with mode():
        assert uncounted(lambda: native(torch.empty(2, 3), X) @ W) == {EMPTY: 1}


def test_each_memory_is_named():
    assert uncounted(lambda: [native(torch.empty(2, 3), X) * 2 for _ in range(3)]) == {EMPTY: 3}


def test_memory_that_a_module_returns_is_named_in_it():
    class Native(nn.Module):
        def forward(self, x):
            return native(torch.empty_like(x), x)

    for inner in (Native(), type("Dict", (Native,), {"forward": lambda s, x: {"y": Native.forward(s, x)}})()):
        model = nn.ModuleList([inner])
        counter = counted(lambda inner=inner: inner(X), model)
        assert [(r.stack[-1], r.operator) for r in counter.profile.records if r.family == "uncounted"] == [("0", LIKE)]


def test_memory_that_the_program_keeps_is_named_where_it_has_changed():
    assert uncounted(lambda: native(torch.empty(2, 3), X)) == {EMPTY: 1}
    assert uncounted(lambda: torch.empty(2, 3)) == {}


def resized():
    x = torch.empty(0)
    x.resize_(2, 3)
    return x


def module_and_weights():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 4), nn.Embedding(5, 3), nn.MultiheadAttention(4, 2))
    other = nn.Linear(3, 4, device="cpu")
    other.load_state_dict(model[0].state_dict())
    return other(X)


class Uninitialised(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 4))

    def forward(self, x):
        return x @ self.weight + (x @ self.weight.t().t())


class UninitialisedBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.empty(2, 3))

    def forward(self, x):
        return x + self.table


def cache():
    keys = torch.empty(1, 8, 3)
    for step in range(3):
        keys[:, step : step + 1] = X[None, :1] * step
        keys[:, : step + 1] @ W


def optimized():
    model = Uninitialised()
    nn.init.normal_(model.weight)
    optimizer = torch.optim.Adam(model.parameters())
    model(X).sum().backward()
    optimizer.step()


def many():
    out = torch.empty(4, 3)
    torch.mm(X, X.t(), out=torch.empty(2, 2))
    torch.cat([X, X], out=out)
    return out.sum()


CONVOLUTION = [0], [1], [0], [1], False, [0], 1  # bias, stride, padding, dilation, transposed, output padding, groups


def examples(layer, x):
    """Return the gradients of each example."""
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}
    loss = torch.func.grad(lambda weights, x: torch.func.functional_call(layer, weights, (x[None],)).square().sum())
    return torch.func.vmap(loss, (None, 0))(weights, x)


UNNAMED = {
    "a shape donor": lambda: torch.zeros_like(torch.empty(2, 3)) + torch.empty(2, 3).shape[0],
    "its device alone": lambda: torch.empty(2, 3).new_zeros(3).to(torch.empty(1).device) + 1,
    "copied into": lambda: torch.empty(2, 3).copy_(X) + 1,
    "filled": lambda: torch.empty(2, 3).fill_(3.0) + 1,
    "random": lambda: torch.empty(2, 3).normal_() + torch.empty(2, 3).uniform_() + torch.empty(2, 3).random_(),
    "out=": many,
    "indexed into": lambda: torch.empty(2, 3).index_put_((torch.tensor([0, 1]),), X) + 1,
    "scattered into": lambda: torch.empty(2, 3).scatter_(0, torch.zeros(2, 3, dtype=torch.long), X) + 1,
    "assigned": lambda: torch.empty(2, 3).__setitem__(slice(None), X),
    "resized": lambda: resized().zero_() + 1,
    "a beta of 0": lambda: torch.baddbmm(torch.empty(1, 2, 4), X[None], W[None], beta=0),
    "modules": module_and_weights,
    "weights without values": lambda: Uninitialised()(X),
    "a buffer without values": lambda: UninitialisedBuffer()(X),
    "a leaf without values": lambda: torch.empty(2, 3, requires_grad=True) * 2,
    "an optimizer": optimized,
    "a cache": cache,
    "dropout": lambda: F.dropout(X, 0.5) + F.dropout1d(X[None], 0.5),
    "rrelu": lambda: F.rrelu(X, training=True),
    "no elements": lambda: torch.empty(0, 3) * 2,
    "meta": lambda: torch.empty(2, 3, device="meta") * 2,
    "attention": lambda: F.scaled_dot_product_attention(X[None, None], X[None, None], X[None, None]),
    "cholesky": lambda: torch.linalg.cholesky(torch.eye(3)),
    "sorted into": lambda: torch.sort(X, out=(torch.empty(2, 3), torch.empty(2, 3, dtype=torch.long)))[0] + 1,
    "stacked": lambda: torch.utils.data.default_collate([{"x": X, "y": 1.0}] * 2)["x"] + 1,
    "vmap": lambda: torch.vmap(lambda x: torch.empty_like(x).copy_(x) + 1)(X),
    "func.grad": lambda: torch.func.grad(lambda x: (x.new_zeros(2, 3) + x).sum())(X),
    "gradients of examples": lambda: examples(nn.Conv1d(2, 3, 2), torch.ones(4, 2, 5)),
    "of a grouped layer": lambda: examples(nn.Conv2d(2, 4, 2, groups=2), torch.ones(4, 2, 5, 5)),
    "of a transposed layer": lambda: examples(nn.ConvTranspose1d(2, 3, 2), torch.ones(4, 2, 5)),
    "of two layers": lambda: examples(nn.Sequential(nn.Conv3d(1, 2, 2), nn.Conv3d(2, 2, 2)), torch.ones(2, 1, 4, 4, 4)),
    "a weight's shape": lambda: torch.ops.aten.convolution_backward(
        torch.ones(1, 1, 3), torch.ones(1, 1, 3), torch.empty(1, 1, 1), *CONVOLUTION, output_mask=[False, True, False]
    ),
    "an input's shape": lambda: torch.ops.aten.convolution_backward(
        torch.ones(1, 1, 3), torch.empty(1, 1, 3), torch.ones(1, 1, 1), *CONVOLUTION, [True, False, False]
    ),
    "dead": lambda: [torch.empty(2, 3) for _ in range(100)] and X * 2,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", UNNAMED)
def test_uninitialised_memory_that_is_written_first_or_not_read_is_not_named(name):
    assert uncounted(UNNAMED[name]) == {}


def test_pausing_forgets_what_was_allocated():
    with OpCounter(strict=True) as counter:
        out = torch.empty(2, 3)
        counter.pause()
        out.copy_(X)
        counter.resume()
        out * 2


def test_nothing_is_looked_at_once_the_memory_is_written_or_gone():
    with OpCounter():
        mode = torch._C._get_dispatch_stack_at(0)
        out = torch.empty(2, 3)
        assert mode.origins.active
        out.copy_(X)
        X * 2
        assert not mode.origins.active
        out = torch.empty(2, 3)
        del out
        for _ in range(40):
            X * 2
        assert not mode.origins.active


def test_a_kernel_of_c_is_named(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source = tmp_path / "scale.c"
    source.write_text("void scale(const float *x, float *y, long n) { for (long i = 0; i < n; ++i) y[i] = 3 * x[i]; }")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(tmp_path / "scale.so"), str(source)], check=True)
    scale = ctypes.CDLL(str(tmp_path / "scale.so")).scale

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = torch.empty_like(x)
            scale(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(out.data_ptr()), ctypes.c_long(x.numel()))
            return out

        @staticmethod
        def backward(ctx, grad):
            return Scale.forward(ctx, grad.contiguous())

    def run():
        x = X.clone().requires_grad_()
        Scale.apply(x).sum().backward()
        assert torch.equal(x.grad, torch.full((2, 3), 3.0))

    assert uncounted(run) == {"autograd.Scale": 1, "autograd.ScaleBackward": 1}
    assert uncounted(lambda: Scale.forward(None, X) + 1) == {LIKE: 1}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "lengths", [([5, 4], [2, 1]), (torch.tensor([5, 4]), torch.tensor([2, 1]))], ids=["list", "tensor"]
)
@pytest.mark.parametrize(
    "compute",
    [
        lambda *given, reduction: F.ctc_loss(*given, reduction=reduction),
        lambda *given, reduction: nn.CTCLoss(reduction=reduction)(*given),
        lambda *given, reduction: torch.ctc_loss(*given, 0, ("none", "mean", "sum").index(reduction)),
        lambda *given, reduction: torch.ops.aten.ctc_loss(*given, 0, ("none", "mean", "sum").index(reduction), True),
    ],
    ids=["functional", "module", "torch", "operator"],
)
def test_lengths_that_are_numbers_are_no_native_code(compute, lengths, reduction):
    targets = torch.tensor([[1, 2], [3, 0]])

    def run(scores):
        loss = compute(scores, targets, *lengths, reduction=reduction).sum()
        if scores.requires_grad:
            loss.backward()

    scores = torch.randn(5, 2, 4).log_softmax(-1)
    assert uncounted(lambda: run(scores)) == {}
    assert uncounted(lambda: run(scores.clone().requires_grad_())) == {}
    assert uncounted(lambda: run(native(torch.empty(5, 2, 4), X))) != {}
