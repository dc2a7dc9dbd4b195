"""Bytes saved for backward, against the arithmetic of a transformer's layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter


class Layer(nn.Module):
    """A layer as Korthikanti et al. (2022) count it, without dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, h = x.shape
        y = self.ln1(x)
        q, k, v = (f(y).view(b, s, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = torch.softmax((q @ k.transpose(-2, -1)) * (h // self.heads) ** -0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, s, h))
        return x + self.down(functional.gelu(self.up(self.ln2(x))))


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("b", "s", "h", "a"), [(2, 16, 32, 4), (1, 64, 64, 8), (3, 8, 16, 2), (2, 24, 48, 3)])
def test_a_layer_saves_what_its_shapes_say(b: int, s: int, h: int, a: int, dry_run: bool) -> None:
    model = nn.Sequential(Layer(h, a)).bfloat16()
    x = torch.randn(b, s, h, dtype=torch.bfloat16, requires_grad=True)
    with OpCounter(model, memory=True, dry_run=dry_run) as c:
        model(x * 1).sum().backward()
    statistics, seed = 2 * 2 * 2 * b * s, 2  # a mean and a deviation of two bytes, of two norms; the gradient 1
    assert sum(row.bytes for row in c.memory.saved) == 32 * s * b * h + 2 * a * s * s * b + statistics + seed
    # both products of the multilayer perceptron read: its input, and what GELU makes of 4 h numbers
    assert c.memory.saved_by_module()["0.up"] == 2 * 4 * s * b * h
    assert c.memory.saved_by_operator()["aten.gelu.default"] == 2 * 4 * s * b * h


def test_a_checkpoint_saves_its_input_alone() -> None:
    model, x = Layer(32, 4), torch.randn(2, 16, 32, requires_grad=True)
    with OpCounter(model, memory=True) as c:
        y = x * 1
        checkpoint(model, y, use_reentrant=False, preserve_rng_state=False).sum().backward()
    assert sum(row.bytes for row in c.memory.saved) == y.nbytes + 4  # and the gradient 1


def test_nothing_is_saved_without_a_backward() -> None:
    with torch.no_grad(), OpCounter(memory=True) as c:
        torch.ones(3).exp()
    assert c.memory.saved == ()


def test_a_dry_run_of_a_recurrent_layer_says_that_it_is_a_lower_bound() -> None:
    model, x = nn.LSTM(4, 8), torch.randn(3, 2, 4)
    real, dry = OpCounter(model, memory=True), OpCounter(model, memory=True, dry_run=True)
    for counter in (real, dry):
        with counter:
            model(x)[0].sum().backward()
    assert real.memory.unknown == ()
    assert dry.memory.unknown == ("aten.mkldnn_rnn_layer.default",)
    assert "lower bound" in str(dry.profile)
