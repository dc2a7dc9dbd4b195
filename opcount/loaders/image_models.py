"""Models of torchvision and timm by name, with images of the size that they were made for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opcount.errors import LoadError
from opcount.loaders.build import build, library, unknown
from opcount.loaders.cli_values import arguments, called_with_shapes
from opcount.loaders.input_tensors import random_input
from opcount.loaders.request import Loaded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from opcount.loaders.request import Request

_FRAMES = 16
_FLOW = (3, 368, 768)
"""Shape of each of two frames for optical flow, which needs multiples of 8."""

_DETECTED = 800
"""Height and width of an image for a detector, near what its own transform makes of one."""


def load_timm(name: str, request: Request) -> Loaded:
    """Build a model of timm without pretrained weights.

    Raises:
        LoadError: timm is not installed, or does not know the name.
    """
    timm = library("timm")
    if not timm.is_model(name.partition(".")[0]):
        raise unknown("timm", name, timm.list_models())
    given = arguments(request.use("kwargs"))
    model = build(f"timm/{name}", lambda: timm.create_model(name, pretrained=False, **given), request)
    config: Any = getattr(model, "default_cfg", {})
    return _with_images(model, tuple(config.get("input_size", (3, 224, 224))), request)


def load_torchvision(name: str, request: Request) -> Loaded:
    """Build a model of torchvision without pretrained weights.

    Raises:
        LoadError: torchvision is not installed, or does not know the name.
    """
    models = library("torchvision.models")
    if name not in models.list_models():
        raise unknown("torchvision", name, models.list_models())
    backbone = {"weights_backbone": None} if _home(models, name) in {"detection", "segmentation"} else {}
    options = {**backbone, **arguments(request.use("kwargs"))}
    model = build(f"torchvision/{name}", lambda: models.get_model(name, weights=None, **options), request)
    if _home(models, name) == "detection":
        return _with_list_of_images(model, request)
    if _home(models, name) == "optical_flow":
        return _with_images(model, _FLOW, request, count=2)
    size = getattr(model, "image_size", None)  # of vision transformers, whose best weights want another
    return _with_images(model, (3, size, size) if isinstance(size, int) else _default_shape(models, name), request)


def homes_of(name: str) -> list[str]:
    """Return the targets that a bare name may mean: those of the libraries that know it."""
    found = []
    for target, module, known in (
        ("timm", "timm", lambda timm: timm.is_model(name)),
        ("torchvision", "torchvision.models", lambda models: name in models.list_models()),
    ):
        with suppress(LoadError):
            if known(library(module)):
                found.append(f"{target}/{name}")
    return found


def _home(models: Any, name: str) -> str:
    """Return the part of torchvision that a model is of: ``"resnet"``, ``"video"``, ``"detection"``."""
    parts = models.get_model_builder(name).__module__.split(".")
    return str(parts[2]) if len(parts) > 2 else ""


def _default_shape(models: Any, name: str) -> tuple[int, ...]:
    """Return the shape that the model's own preprocessing ends with, read from its weights' description."""
    try:
        transforms = models.get_model_weights(name).DEFAULT.transforms()
    except (AttributeError, ValueError):  # no weights were ever published
        return (3, 224, 224)
    sizes = list(getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or [224])
    height, width = sizes[0], sizes[-1]
    return (3, _FRAMES, height, width) if _home(models, name) == "video" else (3, height, width)


def _with_images(model: nn.Module, default: tuple[int, ...], request: Request, count: int = 1) -> Loaded:
    inputs, shape = called_with_shapes(model, request, [default] * count)
    return Loaded(model, inputs, "library", shape)


def _with_list_of_images(model: nn.Module, request: Request) -> Loaded:
    inputs, shape = called_with_shapes(model, request, [(3, _DETECTED, _DETECTED)], _images)
    return Loaded(model, inputs, "library", shape)


def _images(model: nn.Module, shape: tuple[int, ...], request: Request) -> list[Tensor]:
    return [random_input(model, shape, request) for _ in range(request.samples)]
