"""Denoisers of diffusers: from a folder, a ``config.json`` or a class's name, with random weights or none."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from opcount.errors import InputError, LoadError
from opcount.loaders.build import build, library, unknown
from opcount.loaders.cli_values import arguments, called_with, read_json
from opcount.loaders.input_tensors import described, ones, random_batch
from opcount.loaders.request import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from opcount.loaders.request import Request

_WORDS = 77
"""Tokens of a prompt, as CLIP makes them."""


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
    settings.update(arguments(request.use("kwargs")))
    if not isinstance(getattr(diffusers, kind, None), type) or not hasattr(getattr(diffusers, kind), "from_config"):
        raise unknown("diffusers", kind, [each for each in dir(diffusers) if each.endswith(("Model", "ModelV2"))])
    model = build(f"diffusers/{name}", partial(getattr(diffusers, kind).from_config, settings), request)
    inputs = called_with(model, request, _makers(model, request))
    return Loaded(model, inputs, "library", described(inputs))


def _settings(name: str) -> tuple[str, dict[str, Any]]:
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        if path.exists() or "/" in name or name.endswith(".json"):
            raise LoadError(
                f"load: expected a folder with a config.json, got {name!r}. Nothing is downloaded: save the file first."
            )
        return name, {}
    settings = read_json(file)
    kind = settings.get("_class_name")
    if not isinstance(kind, str):
        raise LoadError(
            f"load: expected a _class_name in {str(file)!r}, got {kind!r} of type {type(kind).__name__}. "
            "Name a denoiser's own config.json."
        )
    return kind, settings


def _makers(model: nn.Module, request: Request) -> dict[str, Callable[[], object]]:
    """Return what makes the inputs of one step of denoising, from the model's configuration."""
    config: Any = model.config
    text = _first(config, "cross_attention_dim", "joint_attention_dim", "caption_channels")
    pooled = _first(config, "pooled_projection_dim")
    floats = partial(_floats, model, request)
    known: dict[str, Callable[[], object]] = {
        "sample": lambda: floats(getattr(config, "in_channels", 4), *_image(config, request)),
        "hidden_states": lambda: floats(getattr(config, "in_channels", 4), *_image(config, request)),
        "timestep": lambda: ones((request.samples,), request),
    }
    if getattr(config, "num_embeds_ada_norm", None):
        known["class_labels"] = known["timestep"]
    if text:
        known["encoder_hidden_states"] = lambda: floats(request.use("seq") or _WORDS, text)
    if pooled:
        known["pooled_projections"] = lambda: floats(pooled)
    parameters = inspect.signature(model.forward).parameters
    needed = [name for name, each in parameters.items() if each.default is each.empty and name != "kwargs"]
    for name in needed:
        known.setdefault(name, partial(_refuse, model, needed, name))
    return {name: make for name, make in known.items() if name in parameters}


def _refuse(model: nn.Module, needed: list[str], name: str) -> NoReturn:
    raise InputError(
        f"load: {type(model).__name__} is called with {', '.join(needed)}, and the shape of {name} is not "
        f"known here. Say all of them: --input {name}=1x16x32x32:float32"
    )


def _image(config: Any, request: Request) -> tuple[int, int]:
    size = getattr(config, "sample_size", None) or 64
    height, width = (size, size) if isinstance(size, int) else size
    if sizes := request.use("shape"):
        height, width = sizes[-2:] if len(sizes) > 1 else sizes * 2
    return height, width


def _floats(model: nn.Module, request: Request, *shape: int) -> Tensor:
    return random_batch(model, shape, request)


def _first(config: Any, *names: str) -> int | None:
    """Return the first of these settings that is a number; of several, one for each block, the first."""
    for name in names:
        value = getattr(config, name, None)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, int):
            return value
    return None
