"""Models of torchvision, timm, transformers and diffusers, small enough to train on a CPU in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.shims import define_torchvision_operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

define_torchvision_operators()

Step = tuple["nn.Module", dict[str, torch.Tensor]]
"""A model, and the arguments of its forward."""


def resnet18() -> Step:
    """Return torchvision's ResNet-18."""
    models = pytest.importorskip("torchvision.models")
    return models.resnet18(num_classes=10), {"x": torch.randn(2, 3, 64, 64)}


def vit_tiny() -> Step:
    """Return timm's ViT-Tiny for small images."""
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4), {"x": torch.randn(2, 3, 64, 64)}


def swin() -> Step:
    """Return a Swin transformer of torchvision, whose windows are shifted and padded."""
    models = pytest.importorskip("torchvision.models.swin_transformer")
    model = models.SwinTransformer([4, 4], 24, [2, 2], [3, 6], [4, 4], num_classes=10)
    return model, {"x": torch.randn(2, 3, 56, 56)}


def gpt2(attention: str = "sdpa", *, reentrant: bool | None = None) -> Step:
    """Return GPT-2 with few layers, with attention of one operator or of many, its blocks checkpointed or not."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=3, n_embd=48, n_head=4, vocab_size=211, n_positions=64, use_cache=False, bos_token_id=0, eos_token_id=0
    )
    config._attn_implementation = attention
    model = transformers.GPT2LMHeadModel(config)
    if reentrant is not None:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": reentrant, "preserve_rng_state": False})
    return model, {"input_ids": torch.randint(211, (2, 24))}


def unet() -> Step:
    """Return the UNet of a diffusion model."""
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return model, {"sample": torch.randn(2, 3, 16, 16), "timestep": torch.tensor([3, 5])}


LIBRARY_MODELS: dict[str, Callable[[], Step]] = {
    "resnet18": resnet18,
    "vit tiny": vit_tiny,
    "swin": swin,
    "gpt2": gpt2,
    "gpt2 eager": lambda: gpt2("eager"),
    "gpt2 checkpoint": lambda: gpt2(reentrant=False),
    "gpt2 reentrant checkpoint": lambda: gpt2("eager", reentrant=True),
    "unet": unet,
}


def loss_of(out: Any) -> torch.Tensor:
    """Return a number to begin a backward with."""
    for name in ("logits", "sample"):
        out = getattr(out, name, out)
    loss: torch.Tensor = out.square().mean()
    return loss
