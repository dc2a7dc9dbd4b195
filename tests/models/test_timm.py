"""Models of timm, with random weights, against their arithmetic written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import OpCounter
from tests.shims import define_torchvision_operators

define_torchvision_operators()
timm = pytest.importorskip("timm")


def macs(model, size, *, train=False):
    """Count one forward (and backward) of one image; a dry run must agree, and everything be accounted for."""
    counts = []
    for dry in (False, True):
        with OpCounter(model, strict=True, dry_run=dry) as c:
            out = model(torch.randn(1, 3, size, size))
            if train:
                out.sum().backward()
        counts.append(c.macs)
    assert counts[0] == counts[1]
    return counts[0]


def convolutions(model, size):
    """Return the products of all convolutions and linear layers, from the shapes that hooks see."""
    total = 0

    def see(module, _args, out):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out.numel() * module.weight[0].numel()
        else:
            total += out.numel() * module.in_features

    handles = [m.register_forward_hook(see) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model(torch.randn(1, 3, size, size))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("fused", [True, False])
def test_a_vision_transformer_counts_the_same_with_fused_and_unfused_attention(fused):
    size, patch, d, depth, heads, classes = 32, 8, 24, 2, 3, 10
    model = timm.models.VisionTransformer(size, patch, embed_dim=d, depth=depth, num_heads=heads, num_classes=classes)
    for blk in model.blocks:
        blk.attn.fused_attn = fused
    patches = (size // patch) ** 2
    n = patches + 1
    per_block = n * (4 * d * d + 2 * d * 4 * d) + 2 * n * n * d
    expected = patches * d * 3 * patch * patch + depth * per_block + d * classes
    assert macs(model, size) == expected
    assert macs(model, size, train=True) == 3 * expected - patches * d * 3 * patch * patch + (
        depth * n * n * d if fused else 0  # a fused backward computes the scores anew
    )


def test_swin_attends_inside_windows():
    size, d, window = 32, 16, 4
    model = timm.models.SwinTransformer(
        size, patch_size=4, embed_dim=d, depths=(1, 2), num_heads=(2, 4), window_size=window, num_classes=10
    )
    expected = (size // 4) ** 2 * d * 3 * 4 * 4
    for blocks, side, width in ((1, 8, d), (2, 4, 2 * d)):
        tokens = side * side
        expected += blocks * (tokens * 12 * width * width + 2 * tokens * window**2 * width)
    expected += 4 * 4 * (4 * d) * (2 * d)  # merging: four neighbours become one of twice the width
    expected += 2 * d * 10
    assert macs(model, size) == expected


def test_convnext_is_depthwise_then_two_linear_layers():
    size, classes, widths = 64, 10, (8, 12, 16, 20)
    model = timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=widths, num_classes=classes)
    expected = 16 * 16 * widths[0] * 3 * 4 * 4
    for side, d in zip((16, 8, 4, 2), widths, strict=True):
        expected += side * side * (d * 49 + 2 * d * 4 * d)
    for side, before, d in zip((8, 4, 2), widths, widths[1:], strict=False):
        expected += side * side * d * before * 2 * 2
    expected += widths[-1] * classes
    assert macs(model, size) == expected


def test_efficientnet_is_its_convolutions():
    model = timm.create_model("efficientnet_b0", num_classes=10).eval()
    assert macs(model, 64) == convolutions(model, 64)


def test_maxvit_is_its_layers_and_its_attention():
    model = timm.create_model(
        "maxvit_tiny_tf_224",
        img_size=64,
        num_classes=10,
        embed_dim=(32, 64),
        depths=(1, 1),
        stem_width=8,
        head_hidden_size=16,
    ).eval()
    layers = convolutions(model, 64)
    attention, window, offsets = 0, 2, 3  # windows of 2 x 2, and two attentions: in windows and in a grid
    for side, d in ((16, 32), (8, 64)):
        heads = d // 32
        scores = 2 * side * side * window**2 * d
        # offsets x offsets biases become window^2 x window^2 of them by one-hot products, one axis after the other
        biases = heads * (window**2 * offsets**2 + window**4 * offsets)
        attention += 2 * (scores + biases)
    assert macs(model, 64) == layers + attention


@pytest.mark.parametrize(
    ("name", "expected", "params"),
    [
        # 196 x 768 x 768 + 12 x (197 x 12 x 768^2 + 2 x 197^2 x 768) + 768 x 1000
        ("vit_base_patch16_224", 17_563_828_224, 86_567_656),
    ],
)
def test_the_published_numbers_of_full_size_models(name, expected, params):
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    with torch.no_grad(), OpCounter(model, dry_run=True, strict=True) as c:
        model(torch.zeros(1, 3, 224, 224))
    assert (c.macs, c.params) == (expected, params)
