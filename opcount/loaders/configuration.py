"""Configurations of transformers: read from a folder or a file, or the default of a model type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.build import unknown
from opcount.loaders.cli_values import read_json, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

_PARTS = ("text_config", "vision_config", "audio_config", "encoder", "backbone_config")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions")
_TEXTS = ("input_ids", "decoder_input_ids", "inputs_embeds", "decoder_inputs_embeds")

_SIZES = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "intermediate_size")
"""Settings that no type of model has by default below 1, by the names that all types know them by."""

_SPARE = 4
"""Rows that a table of positions may have beyond those of tokens: padding, and an offset."""


def configuration(transformers: Any, name: str, overrides: Mapping[str, Any]) -> Any:
    """Return the configuration in a folder or a file, or of a model type, some settings overridden.

    Raises:
        LoadError: There is no such file or type, or its settings make no configuration.
    """
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    settings = dict(overrides)
    if file.is_file():
        settings = {**read_json(file), **overrides}
        name = settings.pop("model_type", None)
        if not isinstance(name, str):
            raise LoadError(
                f"load: expected a model_type in {str(file)!r}, got {shown(name)} of type {type(name).__name__}. "
                'Add it, such as "bert".'
            )
    elif path.exists() or "/" in name or name.endswith(".json"):
        raise LoadError(
            f"load: expected a folder with a config.json, got {name!r}. Nothing is downloaded: save the file first."
        )
    types = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if name not in types:
        raise unknown("transformers", name, types.keys())
    where = repr(str(file)) if file.is_file() else "--kwargs" if overrides else f"the default of {name}"
    try:
        config = types[name].from_dict(settings) if file.is_file() else types[name](**settings)
    except Exception as error:
        raise LoadError(f"load: the settings of {where} make no configuration of {name}: {blame(error)}") from error
    _check_sizes(config, settings, where)
    return config


def _check_sizes(config: Any, settings: Mapping[str, Any], where: str) -> None:
    """Refuse a model of no layers or no width: PyTorch makes one, and it would be counted.

    Raises:
        LoadError: A setting is less than 1.
    """
    aliases = getattr(config, "attribute_map", None) or {}
    for part in (config, *(getattr(config, part, None) for part in _PARTS)):
        for standard in _SIZES:
            value = getattr(part, standard, None)
            if type(value) is int and value < 1:
                own = aliases.get(standard)
                name = own if own in settings else standard
                raise LoadError(f"load: expected {name} to be at least 1, got {value} in {where}. Set it higher.")


def look(config: Any, *names: str, default: Any = None) -> Any:
    """Return the first setting of these names, in a configuration or in its parts."""
    for part in (config, *(getattr(config, part, None) for part in _PARTS)):
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                return value
    return default


def positions(config: Any) -> int | None:
    """Return the limit that a configuration sets for the tokens of a text; None if it sets none."""
    limit = look(config, *_POSITIONS)
    return limit if isinstance(limit, int) and limit > 0 else None


def check_length(model: nn.Module, config: Any, inputs: Mapping[str, Any]) -> None:
    """Refuse a text that is longer than the model's table of positions; one that computes them has no limit.

    Raises:
        InputError: It is.
    """
    limit = positions(config)
    if limit is None or not _has_table(model, limit):
        return
    for name in _TEXTS:
        shape = tuple(getattr(inputs.get(name), "shape", ()))
        if len(shape) > 1 and shape[1] > limit:
            raise InputError(
                f"load: expected at most {limit} tokens, the positions of {type(model).__name__}, got {shape[1]} in "
                f"{name}. Pass a shorter --seq, or more positions with --kwargs."
            )


def _has_table(model: nn.Module, limit: int) -> bool:
    """Return whether a parameter or buffer holds a row for each position."""
    tables = [*model.named_parameters(), *model.named_buffers()]
    return any(
        ("pos" in name or "wpe" in name) and tensor.dim() > 1 and 0 <= tensor.shape[-2] - limit <= _SPARE
        for name, tensor in tables
    )
