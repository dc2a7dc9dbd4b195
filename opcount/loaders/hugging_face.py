"""Architectures of transformers: from a folder, a ``config.json`` or a model type, with random weights or none."""

from __future__ import annotations

import inspect
import json
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from opcount.errors import InputError, LoadError
from opcount.loaders.build import build, library, unknown
from opcount.loaders.given import arguments, given_inputs
from opcount.loaders.loaded import Loaded
from opcount.loaders.shapes import suited

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from opcount.loaders.loaded import Request

_TOKENS = 128
_SAMPLES = 16_000
"""One second of speech."""

_BINS = ("num_mel_bins", "input_feat_per_channel", "feature_size", "feature_projection_input_dim", "input_dim")
"""Settings that tell how many numbers describe a moment of sound."""

_WARNING = "warn_if_padding_and_no_attention_mask"


def load(name: str, request: Request) -> Loaded:
    """Build the model of a configuration, and inputs that suit it.

    Args:
        name: A folder with a ``config.json``, such a file, or a model type such as ``bert``.
        request: Sizes, batch, sequence, device, mode.

    Raises:
        LoadError: transformers is not installed, or there is no such file or type.
        InputError: It is not known what the model takes.
    """
    transformers = library("transformers")
    config = _config(transformers, name, arguments(request.arguments))
    model = build(f"transformers/{name}", partial(_maker(transformers, config, name), config), request)
    _look_at_no_values(model)
    if request.inputs:
        return Loaded(model, given_inputs(request), "library", ", ".join(request.inputs))
    inputs = _Inputs(model, config, request).all()
    shape = {key: tuple(value.shape) for key, value in inputs.items() if hasattr(value, "shape")}
    return Loaded(model, inputs, "library", shape)


def _config(transformers: Any, name: str, overrides: dict[str, Any]) -> Any:
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        try:
            settings = json.loads(file.read_text())
        except ValueError as error:
            raise LoadError(f"load: expected JSON in {str(file)!r}, got {error}. Check the file.") from error
        settings.update(overrides)
        if "model_type" not in settings:
            raise LoadError(f'load: expected a model_type in {str(file)!r}, got none. Add it, such as "bert".')
        name = settings.pop("model_type")
        overrides = settings
    elif path.exists() or "/" in name or name.endswith(".json"):
        raise LoadError(
            f"load: expected a folder with a config.json, got {name!r}. Nothing is downloaded: save the file first."
        )
    types = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if name not in types:
        raise unknown("transformers", name, types.keys())
    return types[name].from_dict(overrides) if file.is_file() else types[name](**overrides)


def _maker(transformers: Any, config: Any, name: str) -> Callable[[Any], nn.Module]:
    """Return what builds the class that a configuration names, else the plain model of its type.

    Raises:
        LoadError: transformers has no such class.
    """
    named = getattr(config, "architectures", None) or []
    found = next((getattr(transformers, each) for each in named if hasattr(transformers, each)), None)
    if named and found is None:
        raise LoadError(
            f"load: expected a class of transformers among the architectures of {name}, got {named!r}. "
            "Remove them from the file to count the plain model of its type."
        )
    if found is None and type(config) in transformers.AutoModel._model_mapping:  # noqa: SLF001
        make: Callable[[Any], nn.Module] = transformers.AutoModel.from_config
        return make
    made: Callable[[Any], nn.Module] = (found or _class_of(transformers, config, name))._from_config  # noqa: SLF001
    return made


def _class_of(transformers: Any, config: Any, name: str) -> Any:
    """Return the model of a configuration that no auto class knows, such as a part of a larger model."""
    home = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        module = import_module(home)
    except ImportError:
        module = ModuleType(home)
    base = transformers.PreTrainedModel
    known: list[Any] = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, base)]
    models = [each for each in known if each.config_class is type(config) and each.forward is not base.forward]
    if not models:
        raise LoadError(f"load: transformers has no model for {name} alone. Count the model that it is a part of.")
    return next((each for each in reversed(models) if each.__name__.endswith("Model")), models[-1])


def _look_at_no_values(model: nn.Module) -> None:
    """Leave out a warning for which language models look for padding in what they get,."""
    for module in model.modules():
        if hasattr(module, _WARNING):
            setattr(module, _WARNING, _say_nothing)


def _say_nothing(*_args: object, **_kwargs: object) -> None:
    pass


class _Inputs:
    """What a model is called with, from its configuration and the arguments of its forward."""

    def __init__(self, model: nn.Module, config: Any, request: Request) -> None:
        self._model = model
        self._config = config
        self._request = request
        parameters = inspect.signature(model.forward).parameters
        self._names = list(parameters)
        self._needed = [
            name
            for name, each in parameters.items()
            if each.default is each.empty and each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}
        ]

    def all(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        main = str(getattr(self._model, "main_input_name", "input_ids"))
        if main not in self._names and self._needed:
            main = self._needed[0]
        for name in dict.fromkeys([main, *self._beside(main)]):
            made[name] = self._make(name)
        if "use_cache" in self._names and getattr(self._config, "use_cache", False):
            made["use_cache"] = False
        return made

    def _beside(self, main: str) -> list[str]:
        """Return the further inputs without which the model does not run."""
        names = []
        if getattr(self._config, "is_encoder_decoder", False) and "decoder_input_ids" in self._names:
            names.append("decoder_input_ids")
        towers = hasattr(self._config, "text_config") and hasattr(self._config, "vision_config")
        if (
            (towers or hasattr(self._config, "image_size"))
            and not hasattr(self._config, "image_token_id")
            and not hasattr(self._config, "image_token_index")
        ):
            wanted = ("input_ids", "pixel_values") if towers or main == "input_ids" else ()
            names += [n for n in wanted if n != main and n in self._names]
        return [*names, *self._needed]

    def _make(self, name: str) -> Tensor:
        makers = {
            "input_ids": self._tokens,
            "decoder_input_ids": self._tokens,
            "qformer_input_ids": self._tokens,
            "pixel_values": self._pixels,
            "pixel_values_videos": self._video,
            "input_features": self._features,
            "input_values": self._waveform,
        }
        if name not in makers:
            known = ", ".join(self._needed) or name
            raise InputError(
                f"load: {type(self._model).__name__} is called with {known}, and the shape of {name} is not known "
                f"here. Say all of them: --input {name}=1x3x224x224:float32"
            )
        tensor = makers[name]()
        return (
            tensor.to(self._request.device)
            if name.endswith("ids")
            else suited(tensor, self._model, self._request.device)
        )

    def _look(self, *names: str, default: Any = None) -> Any:
        """Return the first setting of these names, in the configuration or in its parts."""
        parts = ("text_config", "vision_config", "audio_config", "encoder", "backbone_config")
        for config in (self._config, *(getattr(self._config, part, None) for part in parts)):
            for name in names:
                value = getattr(config, name, None)
                if value is not None:
                    return value
        return default

    def _tokens(self) -> Tensor:
        limit = self._look("max_position_embeddings", "n_positions", "max_target_positions", default=_TOKENS)
        length = self._request.sequence or min(_TOKENS, limit if isinstance(limit, int) and limit > 0 else _TOKENS)
        return torch.ones((self._request.batch_size, length), dtype=torch.int64)

    def _image(self) -> tuple[int, int]:
        size = self._look("image_size", "img_size", default=224)
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        sizes = self._request.sizes
        return (sizes[-2:] if len(sizes) > 1 else (sizes[0], sizes[0])) if sizes else (height, width)  # type: ignore[return-value]

    def _pixels(self) -> Tensor:
        channels = self._look("num_channels", "in_channels", "in_chans", default=3)
        frames = [f] if (f := getattr(self._config, "num_frames", None)) else []
        return torch.rand((self._request.batch_size, *frames, channels, *self._image()))

    def _video(self) -> Tensor:
        frames = self._look("frames_per_clip", "num_frames", default=16)
        return torch.rand((self._request.batch_size, frames, self._look("num_channels", default=3), *self._image()))

    def _features(self) -> Tensor:
        bins = self._look(*_BINS, default=80)
        positions = self._look("max_source_positions", default=1500)
        convolved = any(isinstance(m, nn.Conv1d) and m.in_channels == bins for m in self._model.modules())
        if hasattr(self._config, "input_feat_per_channel") or not convolved:
            return torch.rand((self._request.batch_size, self._request.sequence or 4 * _TOKENS, bins))
        return torch.rand((self._request.batch_size, bins, 2 * positions))

    def _waveform(self) -> Tensor:
        bins = getattr(self._config, "num_mel_bins", None)
        if bins:
            return torch.rand((self._request.batch_size, getattr(self._config, "max_length", 1024), bins))
        codec = hasattr(self._config, "codebook_size")
        channels = [getattr(self._config, "audio_channels", 1)] if codec else []
        return torch.rand((self._request.batch_size, *channels, self._request.sequence or _SAMPLES))
