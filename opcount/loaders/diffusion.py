"""Denoisers of diffusers: from a folder, a ``config.json`` or a class's name, with random weights or none."""

from __future__ import annotations

import inspect
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import InputError, LoadError
from opcount.loaders.build import build, library, unknown
from opcount.loaders.given import arguments, given_inputs
from opcount.loaders.loaded import Loaded
from opcount.loaders.shapes import suited

if TYPE_CHECKING:
    from torch import Tensor, nn

    from opcount.loaders.loaded import Request

_WORDS = 77
"""Of the text that an image is made from, as CLIP counts them."""


def load(name: str, request: Request) -> Loaded:
    """Build the denoiser of a configuration, and the latent image, time and condition of one step.

    Args:
        name: A folder with a ``config.json``, such a file, or a class such as ``DiTTransformer2DModel``.
        request: Sizes of the latent image, batch, words, device, mode.

    Raises:
        LoadError: diffusers is not installed, or there is no such file or class.
        InputError: It is not known what the model takes.
    """
    diffusers = library("diffusers")
    kind, settings = _settings(name)
    settings.update(arguments(request.arguments))
    if not isinstance(getattr(diffusers, kind, None), type) or not hasattr(getattr(diffusers, kind), "from_config"):
        raise unknown("diffusers", kind, [each for each in dir(diffusers) if each.endswith(("Model", "ModelV2"))])
    model = build(f"diffusers/{name}", partial(getattr(diffusers, kind).from_config, settings), request)
    if request.inputs:
        return Loaded(model, given_inputs(request), "library", ", ".join(request.inputs))
    inputs = _inputs(model, request)
    return Loaded(model, dict(inputs), "library", {key: tuple(value.shape) for key, value in inputs.items()})


def _settings(name: str) -> tuple[str, dict[str, Any]]:
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        if path.exists() or "/" in name or name.endswith(".json"):
            raise LoadError(
                f"load: expected a folder with a config.json, got {name!r}. Nothing is downloaded: save the file first."
            )
        return name, {}
    try:
        settings = json.loads(file.read_text())
    except ValueError as error:
        raise LoadError(f"load: expected JSON in {str(file)!r}, got {error}. Check the file.") from error
    if "_class_name" not in settings:
        raise LoadError(f"load: expected a _class_name in {str(file)!r}, got none. Name a denoiser's own config.json.")
    return settings["_class_name"], settings


def _inputs(model: nn.Module, request: Request) -> dict[str, Tensor]:
    """Return what one step of denoising is called with, from the model's configuration.

    Raises:
        InputError: It must be called with more than is known here.
    """
    config: Any = model.config
    size = getattr(config, "sample_size", None) or 64
    height, width = (size, size) if isinstance(size, int) else size
    if request.sizes:
        height, width = request.sizes[-2:] if len(request.sizes) > 1 else request.sizes * 2
    batch, words = request.batch_size, request.sequence or _WORDS
    image = (batch, getattr(config, "in_channels", 4), height, width)
    width_of_text = _first(config, "cross_attention_dim", "joint_attention_dim", "caption_channels")
    shapes: dict[str, tuple[int, ...] | None] = {
        "sample": image,
        "hidden_states": image,
        "timestep": (batch,),
        "class_labels": (batch,) if getattr(config, "num_embeds_ada_norm", None) else None,
        "encoder_hidden_states": (batch, words, width_of_text) if width_of_text else None,
        "pooled_projections": (batch, dim) if (dim := _first(config, "pooled_projection_dim")) else None,
    }
    parameters = inspect.signature(model.forward).parameters
    needed = [name for name, each in parameters.items() if each.default is each.empty and name != "kwargs"]
    missing = [name for name in needed if shapes.get(name) is None]
    if missing:
        raise InputError(
            f"load: {type(model).__name__} is called with {', '.join(needed)}, and the shape of {missing[0]} is not "
            f"known here. Say all of them: --input {missing[0]}=1x16x32x32:float32"
        )
    return {name: _tensor(shape, model, request) for name, shape in shapes.items() if shape and name in parameters}


def _first(config: Any, *names: str) -> int | None:
    """Return the first of these settings that is a number; of several, one for each block, the first."""
    for name in names:
        value = getattr(config, name, None)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, int):
            return value
    return None


def _tensor(shape: tuple[int, ...], model: nn.Module, request: Request) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.int64, device=request.device)
    return suited(torch.rand(shape), model, request.device)
