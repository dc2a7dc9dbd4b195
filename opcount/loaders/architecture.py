"""The class of transformers that a configuration is counted as."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from opcount.errors import LoadError
from opcount.loaders.build import near
from opcount.loaders.cli_values import shown

_GENERATES = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForTextToWaveform",
    "AutoModelForCausalLM",
)
"""Auto classes of models that are of no use without their head."""

_FILLS_GAPS = "AutoModelForMaskedLM"
"""Auto class of encoders: what they can be given a causal head for is no reason to count them with one."""


def architecture(transformers: Any, config: Any, name: str, wanted: str = "") -> tuple[Any, str]:
    """Return a class, and a note for the user about the choice.

    It is the one that the user wants, or that the configuration names; else, of a model that generates, the one with
    a head; else the plain model of its type.

    Args:
        transformers: The library.
        config: The configuration.
        name: Of the configuration, as the user wrote it.
        wanted: The name of a class; empty: the user wants none.

    Raises:
        LoadError: transformers has no such class, or it is another configuration's.
    """
    if wanted:
        return _wanted(transformers, config, name, wanted), ""
    named = _named(config, name)
    found = next((each for each in map(_class_named(transformers), named) if each is not None), None)
    if named and found is None:
        raise LoadError(
            f"load: expected a class of transformers among the architectures of {name}, got {named!r}. "
            "Remove them from the file to count the plain model of its type."
        )
    if found is not None:
        return found, ""
    kind = _suitable(transformers, config) or _class_of(transformers, config, name)
    note = f"transformers/{name} names no architecture: {kind.__name__} is counted."
    known = [_in_mapping(transformers, "AutoModel", config), *_models(transformers, config)]
    other = next((each.__name__ for each in known if each is not None and each is not kind), "")
    return kind, f"{note} Another: transformers/{name}:{other}" if other else note


def _class_named(transformers: Any) -> Any:
    base = transformers.PreTrainedModel

    def find(name: str) -> Any:
        found = getattr(transformers, name, None)
        return found if isinstance(found, type) and issubclass(found, base) else None

    return find


def _named(config: Any, name: str) -> list[str]:
    named = getattr(config, "architectures", None) or []
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, (list, tuple)) or not all(isinstance(each, str) for each in named):
        raise LoadError(
            f"load: expected names of classes as the architectures of {name}, got {shown(named)} of type "
            f"{type(named).__name__}. Correct them, or remove them from the file."
        )
    return list(named)


def _wanted(transformers: Any, config: Any, name: str, wanted: str) -> Any:
    found = _class_named(transformers)(wanted)
    known = [each.__name__ for each in _models(transformers, config)]
    if found is None:
        advice = near(wanted, known) or f"There are {', '.join(known[:8])}."
        raise LoadError(f"load: expected a class of transformers, got {wanted!r}. {advice}")
    if found.config_class is not None and not isinstance(config, found.config_class):
        raise LoadError(
            f"load: expected a class for the {type(config).__name__} of {name}, got {wanted}, which is for a "
            f"{found.config_class.__name__}. There are {', '.join(known[:8])}."
        )
    return found


def _suitable(transformers: Any, config: Any) -> Any:
    fills_gaps = _in_mapping(transformers, _FILLS_GAPS, config)
    for auto in _GENERATES:
        found = _in_mapping(transformers, auto, config)
        if found is not None and not (fills_gaps is not None and auto == _GENERATES[-1]):
            return found
    return _in_mapping(transformers, "AutoModel", config)


def _in_mapping(transformers: Any, auto: str, config: Any) -> Any:
    mapping = getattr(getattr(transformers, auto, None), "_model_mapping", {})
    found = mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found


def _class_of(transformers: Any, config: Any, name: str) -> Any:
    """Return the model of a configuration that no auto class knows, such as a part of a larger model."""
    models = _models(transformers, config)
    if not models:
        raise LoadError(f"load: transformers has no model for {name} alone. Count the model that it is a part of.")
    return next((each for each in reversed(models) if each.__name__.endswith("Model")), models[-1])


def _models(transformers: Any, config: Any) -> list[Any]:
    """Return the classes that run a configuration, in the order in which their file defines them."""
    home = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        module = import_module(home)
    except ImportError:
        module = ModuleType(home)
    base = transformers.PreTrainedModel
    known: list[Any] = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, base)]
    return [each for each in known if each.config_class is type(config) and each.forward is not base.forward]
