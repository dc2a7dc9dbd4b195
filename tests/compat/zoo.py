"""The models whose counts are published, from plain PyTorch, torchvision and timm."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class InnerNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(10, 10)
        self.fc2 = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(self.fc2(x))


class TestNet(nn.Module):
    __test__ = False  # no class of tests

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(10, 10)
        self.fc2 = nn.Linear(10, 10)
        self.inner = InnerNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(self.fc2(self.inner(x)))


class MMResNet50(nn.Module):
    """A ResNet-50 in a model that has a preprocessor, which nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor = nn.Identity()
        self.resnet = _torchvision("resnet50")()

    def forward(self, x: Tensor) -> Tensor:
        return self.resnet(x)


class Classifier(nn.Module):
    """A ResNet-50 in the layout of mmpretrain, which runs its backbone and its neck, but not its head."""

    def __init__(self) -> None:
        super().__init__()
        resnet = _torchvision("resnet50")()
        names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
        self.backbone = nn.Sequential()
        for name in names:
            self.backbone.add_module(name, getattr(resnet, name))
        self.neck = nn.Module()
        self.neck.gap = nn.AdaptiveAvgPool2d((1, 1))
        self.head = nn.Module()
        self.head.fc = resnet.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.neck.gap(self.backbone(x))


def dcgan_generator() -> nn.Module:
    """Three transposed convolutions with biases, from 100 x 1 x 1 to 3 x 16 x 16."""
    return nn.Sequential(
        nn.ConvTranspose2d(100, 512, 4),
        nn.BatchNorm2d(512),
        nn.ReLU(),
        nn.ConvTranspose2d(512, 256, 4, stride=2, padding=1),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.ConvTranspose2d(256, 3, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        package = "torchvision.models.video" if name == "r3d_18" else "torchvision.models"
        return getattr(import_module(package), name)()

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: import_module("timm").create_model(name)


ZOO: dict[str, Callable[[], nn.Module]] = {
    "seed/TestNet": TestNet,
    "seed/Conv2d(3,10,1)": lambda: nn.Conv2d(3, 10, 1),
    "seed/Conv2d(3,10,3)": lambda: nn.Conv2d(3, 10, 3),
    "seed/MMResNet50 eval": MMResNet50,
    "seed/MMResNet50 train": MMResNet50,
    "torch/DCGAN-G": dcgan_generator,
    "timm/mixer_b16_224": _timm("mixer_b16_224"),
    **{
        f"torchvision/{name}": _torchvision(name)
        for name in (
            "alexnet",
            "convnext_tiny",
            "densenet121",
            "efficientnet_b0",
            "mobilenet_v2",
            "r3d_18",
            "resnet18",
            "swin_t",
        )
    },
}
"""By their names in the reference; all of it that OpenMMLab's packages do not build."""
