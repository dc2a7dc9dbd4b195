"""Architectures of transformers: from a folder, a ``config.json`` or a model type, with random weights or none."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from opcount.errors import InputError, LoadError
from opcount.loaders.architecture import architecture
from opcount.loaders.build import build, library
from opcount.loaders.cli_values import arguments, called_with
from opcount.loaders.configuration import check_length, configuration, look, positions
from opcount.loaders.input_tensors import described, ones, random_batch
from opcount.loaders.request import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from opcount.loaders.request import Request

_TOKENS = 128
_SAMPLES = 16_000
"""One second of speech."""

_BINS = ("num_mel_bins", "input_feat_per_channel", "feature_size", "feature_projection_input_dim", "input_dim")
"""Settings that tell how many numbers describe a moment of sound."""

_WARNING = "warn_if_padding_and_no_attention_mask"


def load(name: str, request: Request) -> Loaded:
    """Build the model of a configuration, and inputs that suit it.

    Args:
        name: A folder with a ``config.json``, such a file, or a model type such as ``bert``; behind a colon, a class in
            place of the one that the configuration names.
        request: Sizes, batch, sequence, device, mode.

    Raises:
        LoadError: transformers is not installed, or there is no such file, type or class.
        InputError: It is not known what the model takes, or it takes no text of that length.
    """
    transformers = library("transformers")
    name, _, wanted = name.partition(":")
    config = configuration(transformers, name, arguments(request.use("kwargs")))
    kind, note = architecture(transformers, config, name, wanted)
    model = build(f"transformers/{name}", partial(kind._from_config, config), request)  # noqa: SLF001  (from_config's)
    _look_at_no_values(model)
    inputs = called_with(model, request, _InputMakers(model, config, request).by_name())
    given = inputs if isinstance(inputs, dict) else {"input_ids": inputs[0]} if isinstance(inputs, tuple) else {}
    check_length(model, config, given)
    return Loaded(model, inputs, "library", described(inputs), note=note)


def knows(name: str) -> bool:
    """Return whether transformers is installed and has a type of model of this name."""
    try:
        types = library("transformers").models.auto.configuration_auto.CONFIG_MAPPING
    except LoadError:
        return False
    return name in types


def _look_at_no_values(model: nn.Module) -> None:
    """Disable the check for padding: it reads the values of tokens, to warn."""
    for module in model.modules():
        if hasattr(module, _WARNING):
            setattr(module, _WARNING, _say_nothing)


def _say_nothing(*_args: object, **_kwargs: object) -> None:
    pass


class _InputMakers:
    """Inputs of a model, made from its configuration and the arguments of its forward."""

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

    def by_name(self) -> dict[str, Callable[[], object]]:
        """Return what makes each input, by name."""
        main = str(getattr(self._model, "main_input_name", "input_ids"))
        if main not in self._names and self._needed:
            main = self._needed[0]
        made: dict[str, Callable[[], object]] = {
            name: partial(self._make, name) for name in dict.fromkeys([main, *self._beside(main)])
        }
        if "use_cache" in self._names and getattr(self._config, "use_cache", False):
            made["use_cache"] = bool
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
        return makers[name]()

    def _tokens(self) -> Tensor:
        limit = positions(self._config)
        length = self._request.use("seq") or min(_TOKENS, limit or _TOKENS)
        words = look(self._config, "vocab_size", default=2)
        if isinstance(words, int) and words < 1:
            raise InputError(
                f"load: expected a vocabulary of at least one word, got vocab_size {words}. Set it higher."
            )
        tokens = ones((self._request.samples, length), self._request)
        return tokens if words != 1 else tokens - 1

    def _image(self) -> tuple[int, int]:
        size = look(self._config, "image_size", "img_size", default=224)
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        sizes = self._request.use("shape")
        return (sizes[-2:] if len(sizes) > 1 else (sizes[0], sizes[0])) if sizes else (height, width)

    def _random(self, *shape: int) -> Tensor:
        return random_batch(self._model, shape, self._request)

    def _pixels(self) -> Tensor:
        channels = look(self._config, "num_channels", "in_channels", "in_chans", default=3)
        frames = [f] if (f := getattr(self._config, "num_frames", None)) else []
        return self._random(*frames, channels, *self._image())

    def _video(self) -> Tensor:
        frames = look(self._config, "frames_per_clip", "num_frames", default=16)
        return self._random(frames, look(self._config, "num_channels", default=3), *self._image())

    def _features(self) -> Tensor:
        bins = look(self._config, *_BINS, default=80)
        spots = look(self._config, "max_source_positions", default=1500)
        convolved = any(isinstance(m, nn.Conv1d) and m.in_channels == bins for m in self._model.modules())
        if hasattr(self._config, "input_feat_per_channel") or not convolved:
            return self._random(self._request.use("seq") or 4 * _TOKENS, bins)
        return self._random(bins, 2 * spots)

    def _waveform(self) -> Tensor:
        bins = getattr(self._config, "num_mel_bins", None)
        if bins:
            return self._random(getattr(self._config, "max_length", 1024), bins)
        codec = hasattr(self._config, "codebook_size")
        channels = [getattr(self._config, "audio_channels", 1)] if codec else []
        return self._random(*channels, self._request.use("seq") or _SAMPLES)
