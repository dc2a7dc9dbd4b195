"""Models of plain PyTorch, against their arithmetic written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import OpCounter
from tests.compat.zoo import dcgan_generator

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


def macs(model, *inputs):
    """Count one forward under grad, no_grad and inference_mode, which must agree with each other and a dry run."""
    counts = set()
    for mode in MODES:
        with mode(), OpCounter(model, strict=True) as c:
            model(*inputs)
        counts.add(c.macs)
    with OpCounter(model, strict=True, dry_run=True) as c:
        model(*inputs)
    assert counts == {c.macs}
    return c.macs


@pytest.mark.parametrize("training", [True, False])
def test_an_encoder_decoder_transformer(training):
    b, source, target, d, hidden, heads, layers = 2, 7, 5, 16, 24, 4, 2
    model = nn.Transformer(d, heads, layers, layers, hidden, dropout=0.0, batch_first=True).train(training)
    encoder = source * (4 * d * d + 2 * d * hidden) + 2 * source * source * d
    decoder = target * (4 * d * d + 2 * d * hidden) + 2 * target * target * d
    cross = 2 * target * d * d + 2 * source * d * d + 2 * target * source * d
    expected = b * layers * (encoder + decoder + cross)
    assert macs(model, torch.randn(b, source, d), torch.randn(b, target, d)) == expected


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrent_network_multiplies_its_input_and_its_state_for_every_gate(kind, gates, directions):
    b, length, inputs, hidden = 3, 5, 6, 8
    model = kind(inputs, hidden, num_layers=2, bidirectional=directions == 2, batch_first=True)
    first = gates * hidden * (inputs + hidden)
    second = gates * hidden * (directions * hidden + hidden)
    assert macs(model, torch.randn(b, length, inputs)) == b * length * directions * (first + second)


def test_a_dcgan_generator_multiplies_each_input_by_each_tap_of_its_transposed_kernels():
    # 100 x 1 x 1 -> 512 x 4 x 4 -> 256 x 8 x 8 -> 3 x 16 x 16, kernels of 4 x 4
    b = 2
    expected = b * 16 * (1 * 100 * 512 + 4 * 4 * 512 * 256 + 8 * 8 * 256 * 3)
    assert macs(dcgan_generator(), torch.randn(b, 100, 1, 1)) == expected


class UNet(nn.Module):
    """Two levels: down by pooling, up by a transposed convolution, with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, padding=1)
        self.bottom = nn.Conv2d(4, 8, 3, padding="same")
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.merge = nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        skip = self.down(x).relu()
        deep = self.bottom(nn.functional.max_pool2d(skip, 2)).relu()
        return self.head(self.merge(torch.cat((skip, self.up(deep)), 1)).relu())


def test_a_unet_pays_for_each_level_at_its_own_size():
    side, half = 16, 8
    down = side * side * 4 * 1 * 9
    bottom = half * half * 8 * 4 * 9
    up = half * half * 8 * 4 * 4
    merge = side * side * 4 * 8 * 9
    head = side * side * 2 * 4
    assert macs(UNet(), torch.randn(1, 1, side, side)) == down + bottom + up + merge + head


def test_training_a_unet_costs_two_more_forwards_except_for_the_gradient_of_its_input():
    model = UNet()
    with OpCounter(model, strict=True) as c:
        model(torch.randn(1, 1, 16, 16)).sum().backward()
    phases = c.by_phase()
    first = 16 * 16 * 4 * 1 * 9
    assert phases["backward"].macs == 2 * phases["forward"].macs - first
