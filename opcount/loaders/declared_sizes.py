"""Sizes of images that a config declares, for models that do not accept the default size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from opcount.errors import DryRunError
from opcount.loaders.input_tensors import IMAGE
from opcount.loaders.request import Loaded
from opcount.loaders.step import forward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TRAINED_AT = ("img_size", "image_size", "input_size")
_PIPELINES = ("test_dataloader", "val_dataloader")


def declared_shapes(config: Any, model: nn.Module, default: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return shapes of images other than the default, the likeliest first.

    Height and width are those of the pipeline that tests, then those in the settings of the model; the channels are
    those that its first convolution takes. Where the pipeline makes clips, or takes frames from several places of a
    video, each shape follows as that of these.
    """
    pipeline = _transforms(config)
    transforms = [each for each in pipeline if each.get("keep_ratio") is not True][::-1]
    sizes = [
        *_sizes(transforms, "crop_size"),
        *_sizes(transforms, "scale", "size", "input_size"),
        *_own(config.get("model")),
        default,
    ]
    first = next((each for each in model.modules() if isinstance(each, (nn.Conv2d, nn.Conv3d))), None)
    channels = first.in_channels if first is not None else IMAGE[0]
    shapes = dict.fromkeys([*((channels, *size) for size in sizes), *_videos(pipeline, channels, sizes)])
    return [shape for shape in shapes if shape != (IMAGE[0], *default)]


def _videos(pipeline: list[Any], channels: int, sizes: list[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of a clip, ``(1, channels, frames, height, width)``, or of single frames."""
    for sampler in pipeline:
        frames, places = (_pair(sampler.get(key)) or (0,) for key in ("clip_len", "num_clips"))
        if frames[0] > 1:
            yield from ((1, channels, frames[0], *size) for size in sizes)
        elif frames[0] and places[0] > 1:
            yield from ((places[0], channels, *size) for size in sizes)


def _transforms(config: Any) -> list[Any]:
    for name in _PIPELINES:
        dataset = (config.get(name) or {}).get("dataset") or {}
        if found := dataset.get("pipeline"):
            return [each for each in found if isinstance(each, dict)]
    return [each for each in config.get("test_pipeline") or () if isinstance(each, dict)]


def _sizes(transforms: list[Any], *keys: str) -> Iterator[tuple[int, int]]:
    """Yield sizes in transforms, which give the width first."""
    for each in transforms:
        for key in keys:
            if each.get("edge") is None and (size := _pair(each.get(key))):
                yield size[::-1]


def _own(settings: Any) -> Iterator[tuple[int, int]]:
    """Yield sizes in the settings of a model, which give the height first."""
    if isinstance(settings, dict):
        yield from filter(None, (_pair(settings.get(key)) for key in _TRAINED_AT))
        settings = list(settings.values())
    for item in settings if isinstance(settings, (list, tuple)) else ():
        yield from _own(item)


def _pair(value: Any) -> tuple[int, int] | None:
    numbers = [value, value] if type(value) is int else list(value) if isinstance(value, (list, tuple)) else []
    if len(numbers) == 2 and all(type(each) is int and each > 0 for each in numbers):
        return numbers[0], numbers[1]
    return None


def first_that_fits(make: Callable[[tuple[int, ...]], Loaded], shapes: list[tuple[int, ...]]) -> tuple[Loaded, str]:
    """Return what was made for the first shape that the model accepts, and what went wrong with the first of all.

    Args:
        make: Returns a model with inputs of a shape.
        shapes: The default, then those to try if the model refuses it.
    """
    default = make(shapes[0])
    why = _refusal(default) if len(shapes) > 1 else ""
    if why:
        for shape in shapes[1:]:
            loaded = make(shape)
            if not _refusal(loaded):
                return loaded, why
    return default, ""


def _refusal(loaded: Loaded) -> str:
    """Return the error that a model raises for its inputs, in one line; empty if none, or if a dry run cannot tell."""
    from opcount.counter import OpCounter  # noqa: PLC0415  (the command that counts has it already)
    from opcount.dryrun import skeleton  # noqa: PLC0415  (fake tensors take a second to import)
    from opcount.loaders.blame import blame  # noqa: PLC0415

    try:
        twin = Loaded(skeleton(loaded.model), loaded.inputs, loaded.style, loaded.shape)
        with OpCounter(dry_run=True):
            forward(twin)
    except DryRunError:
        return ""
    except Exception as error:  # noqa: BLE001  (whatever the model raises, the count will show it)
        return blame(error, loaded.model)
    return ""
