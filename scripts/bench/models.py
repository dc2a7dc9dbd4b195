"""The models that analyses are timed on, by name: random weights, and inputs of their usual size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.shims import define_torchvision_operators

define_torchvision_operators()

SEQUENCE = 128


def _image(package: str, name: str) -> tuple[nn.Module, dict[str, Any]]:
    models = __import__(f"{package}.models" if package == "torchvision" else package, fromlist=["x"])
    model = models.get_model(name) if package == "torchvision" else models.create_model(name)
    return model, {"x": torch.randn(1, 3, 224, 224)}


def _text(architecture: str, **config: int) -> tuple[nn.Module, dict[str, Any]]:
    import transformers  # noqa: PLC0415  (an extra)

    settings = transformers.AutoConfig.for_model(architecture, **config)
    model = transformers.AutoModel.from_config(settings)
    return model, {"input_ids": torch.randint(0, 1000, (1, SEQUENCE))}


def _lstm() -> tuple[nn.Module, dict[str, Any]]:
    return nn.LSTM(256, 256, num_layers=2, batch_first=True), {"input": torch.randn(1, SEQUENCE, 256)}


MODELS: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {
    "ResNet-50": lambda: _image("torchvision", "resnet50"),
    "ViT-B/16": lambda: _image("timm", "vit_base_patch16_224"),
    "Swin-T": lambda: _image("timm", "swin_tiny_patch4_window7_224"),
    "EfficientNet-B0": lambda: _image("torchvision", "efficientnet_b0"),
    "BERT": lambda: _text("bert"),
    "GPT-2": lambda: _text("gpt2"),
    "Llama": lambda: _text(
        "llama", hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8
    ),
    "Mamba": lambda: _text("mamba", hidden_size=256, num_hidden_layers=4),
    "LSTM": _lstm,
}


class Positional(nn.Module):
    """Gives a model that takes keyword arguments its only input by position, as several peers hand it over."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, x: torch.Tensor) -> Any:
        """Run the model."""
        out = self.model(**{self.name: x})
        return out[0] if isinstance(out, (tuple, dict)) else out


def positional(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a model in eval mode that takes one tensor, and that tensor."""
    model, inputs = MODELS[name]()
    ((key, value),) = inputs.items()
    return Positional(model, key).eval(), value
