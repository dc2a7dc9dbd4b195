"""Images for a detector, prepared by the pipeline of its config: those of its data set, or random ones in their place.

mmdetection's own script counts the mean over images that the config's ``val_dataloader`` yields. Where the data set is
not on this machine, images of random pixels go through the same pipeline, without the steps that read files.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.request import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_SIZE = (480, 640)
"""Height and width of random images: the most frequent ones in COCO."""


def images(
    config: Any, number: int, size: tuple[int, ...], prepared: Callable[[Any], dict[str, Any]]
) -> tuple[Callable[[], Iterator[Image]], str]:
    """Return what yields images, and where they come from: empty if from the data set.

    Args:
        config: An OpenMMLab config.
        number: How many images, or all of the data set if it has fewer.
        size: Height and width of random images, also where the data set is there; empty: the images of the data set,
            or random ones of the most frequent size in COCO.
        prepared: Returns the arguments of the model for what a data loader yields.

    Raises:
        LoadError: The config has no ``val_dataloader`` or its data set cannot be read.
    """
    settings = config.get("val_dataloader")
    if not settings:
        raise LoadError("load: expected a config with a val_dataloader for --num-images, got none. Leave it out.")
    batches, why = _of_data_set(settings) if not size else (None, "")
    if batches is None:
        height, width = size or _SIZE
        batches = partial(_random, _preparing(settings["dataset"]), number, (height, width))
        why = f"{number} random images of {height} x {width} stand in for those of its data set{why}"

    def prepare() -> Iterator[Image]:
        for batch in _read(islice(batches(), number)):
            inputs = prepared(batch)
            original = tuple(inputs["data_samples"][0].ori_shape)
            yield Image(inputs, original, tuple(inputs["inputs"].shape[-2:]))

    return prepare, why


def _read(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield batches; what goes wrong is the config's or the data set's."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise InputError(
                f"load: an image cannot be prepared as the config says: {blame(error)}. Leave out --num-images: an "
                "input of --shape H W needs no data set."
            ) from error
        yield batch


def _of_data_set(settings: Any) -> tuple[Callable[[], Iterator[Any]] | None, str]:
    """Return what yields the images of a data set in batches of one, or why there are none."""
    runner = import_module("mmengine.runner").Runner
    alone = {**settings, "batch_size": 1, "num_workers": 0, "persistent_workers": False}
    alone.pop("prefetch_factor", None)
    try:
        loader: Iterable[Any] = runner.build_dataloader(alone)
    except FileNotFoundError as error:
        return None, f" ({error.filename!r} is not here)"
    except Exception as error:
        raise LoadError(f"load: the data set of the config cannot be read: {blame(error)}") from error
    return partial(iter, loader), ""


def _preparing(dataset: Any) -> Callable[[dict[str, Any]], Any]:
    """Return the pipeline of a data set, without the steps that read files."""
    while "pipeline" not in dataset and "dataset" in dataset:  # it wraps another
        dataset = dataset["dataset"]
    steps = [step for step in dataset.get("pipeline") or () if not _name(step).startswith("Load")]
    compose: Callable[[dict[str, Any]], Any] = import_module("mmengine.dataset").Compose(steps)
    return compose


def _random(prepare: Callable[[dict[str, Any]], Any], number: int, size: tuple[int, int]) -> Iterator[Any]:
    """Yield batches of one image of random pixels."""
    generator = np.random.default_rng(0)
    collate = import_module("mmengine.dataset").pseudo_collate
    for index in range(number):
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        image = {"img": pixels, "img_id": index, "img_path": "", "img_shape": size, "ori_shape": size}
        yield collate([prepare(image)])


def _name(step: Any) -> str:
    """Return the name of a transform's class, which a config says as text or as the class."""
    kind = step.get("type")
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", "")
