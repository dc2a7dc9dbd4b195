"""An OpenMMLab config becomes a model through mmengine's Config and registries; nothing is ever downloaded.

The model is prepared as in the packages' own ``get_flops.py``: mmpretrain models run ``extract_feat``; detectors
get their synchronized batch norms reverted, their re-parameterizable blocks fused, and their inputs from their
preprocessor.
"""

from __future__ import annotations

import argparse
import math
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.hub import INSTALL, find_config
from opcount.loaders.input_tensors import image_shape, random_batch
from opcount.loaders.request import Loaded
from opcount.model_inputs import dtype_and_device, random_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from opcount.loaders.request import Request

_CLASSIFIERS = {"mmpretrain", "mmcls"}
_DETECTORS = {"mmdet", "mmyolo"}
_WEIGHTS = {"init_cfg", "pretrained", "teacher_ckpt"}
"""Keys that name weights to fetch; a count needs none."""


def load(target: str, request: Request) -> Loaded:
    """Build the model of a config, by path or name, and inputs for it.

    Raises:
        LoadError: A package is missing, there is no such config, or its model cannot be built.
        InputError: The shape does not suit the model.
    """
    path = find_config(target)
    _require("mmengine", target)
    config = _read(path, request.use("cfg_options"))
    scope = config.get("default_scope") or "mmengine"
    if scope not in _CLASSIFIERS | _DETECTORS:
        raise LoadError(
            f"load: expected a config of mmpretrain, mmdet or mmyolo, got {str(path)!r} with default_scope {scope!r}. "
            "Build its model in a Python file, and pass FILE.py:factory."
        )
    _require(scope, target)
    model = _build(config, scope, path)
    finish = _classifier if scope in _CLASSIFIERS else _detector
    return finish(model, scope, request)


def _require(package: str, target: str) -> None:
    if find_spec(package) is None:
        raise LoadError(f"load: the config {target!r} needs {package}, which is not installed. {INSTALL}")


def _read(path: Path, options: tuple[str, ...]) -> Any:
    try:
        settings = import_module("mmengine.config")
        config = settings.Config.fromfile(path)
        if options:
            parser = argparse.ArgumentParser()
            parser.add_argument("--options", nargs="+", action=settings.DictAction)
            config.merge_from_dict(parser.parse_args(["--options", *options]).options)
    except (Exception, SystemExit) as error:
        raise LoadError(f"load: the config {str(path)!r} cannot be read: {blame(error)}") from error
    if not isinstance(config.get("model"), dict):
        raise LoadError(
            f"load: expected `model = dict(type=..., ...)` in the config {str(path)!r}, got {config.get('model')!r}."
        )
    return config


def _build(config: Any, scope: str, path: Path) -> nn.Module:
    registry = import_module("mmengine.registry")
    settings = _without_weights(config.model)
    if settings.get("data_preprocessor") is None and config.get("data_preprocessor") is not None:
        settings["data_preprocessor"] = config.data_preprocessor
    try:
        registry.init_default_scope(scope)
        with registry.DefaultScope.overwrite_default_scope(scope):
            model: nn.Module = registry.MODELS.build(settings)
    except (Exception, SystemExit) as error:
        raise LoadError(
            f"load: the model of the config {str(path)!r} cannot be built: {blame(error).rstrip('.')}.{_advice(error)}"
        ) from error
    return model


def _advice(error: BaseException) -> str:
    """Return what to install where the error is about mmcv."""
    if "mmcv" not in str(error).lower():
        return ""
    return (
        " mmdet and mmyolo need an mmcv with its operators, of a version that they accept; mmpretrain alone needs no "
        "more than: pip install 'mmcv-lite>=2.0.1,<2.1'"
    )


def _without_weights(value: Any) -> Any:
    """Return the settings without the keys that fetch weights, at any depth; dicts and lists keep their class."""
    if isinstance(value, dict):
        kept = {key: _without_weights(item) for key, item in value.items() if key not in _WEIGHTS}
        return type(value)(kept)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_weights, value))
    return value


def _classifier(model: nn.Module, scope: str, request: Request) -> Loaded:
    """Replace ``forward`` by ``extract_feat``: the parameters of the head count, its operators do not."""
    if not hasattr(model, "extract_feat"):
        raise LoadError(
            f"load: expected a model of {scope} with extract_feat, got {type(model).__name__}. Build it in a Python "
            "file whose model calls what you want counted, and pass FILE.py:factory."
        )
    model = model.to(request.device).train(request.train)
    model.forward = model.extract_feat  # type: ignore[assignment]
    shape = image_shape(request.use("shape"))
    return Loaded(model, random_batch(model, shape, request), "classifier", shape)


def _detector(model: nn.Module, scope: str, request: Request) -> Loaded:
    model = import_module("mmengine.model").revert_sync_batchnorm(model).train(request.train)
    if not request.train:
        _switch_to_deploy(model)
    model = model.to(request.device)
    shape = image_shape(request.use("shape"), (3, 640, 640))
    asked = shape[1:]
    if len(shape) != 3:
        raise InputError(f"load: expected one size, or height and width, got {request.shape!r}. Pass --shape H W.")
    stride = _stride(model) if scope == "mmyolo" else 1
    image = pad(random_tensor(shape, torch.float32, "cpu"), [0, -shape[2] % stride, 0, -shape[1] % stride])
    inputs = _preprocessed(model, image, asked, request)
    padded = inputs["inputs"].shape[-2:]
    return Loaded(model, inputs, "detector", padded, None if tuple(padded) == asked else asked)


def _switch_to_deploy(model: nn.Module) -> None:
    """Fuse the branches of the blocks that know how to."""
    for module in list(model.modules()):
        switch = getattr(module, "switch_to_deploy", None)
        if callable(switch) and not getattr(module, "deploy", False):
            switch()


def _stride(model: nn.Module) -> int:
    """Return what height and width must be multiples of: mmyolo's necks add feature maps that double in size."""
    return math.lcm(1, *_strides(getattr(model, "bbox_head", None)))


def _strides(head: object) -> Iterator[int]:
    for stride in getattr(getattr(head, "prior_generator", None), "strides", ()):
        yield from (stride,) if isinstance(stride, int) else stride


def _preprocessed(model: nn.Module, image: Tensor, asked: tuple[int, ...], request: Request) -> dict[str, Any]:
    size = tuple(image.shape[-2:])
    sample = {"ori_shape": asked, "img_shape": size, "scale_factor": (1.0, 1.0), "img_id": 0, "flip": False}
    describe = import_module("mmdet.structures").DetDataSample
    nothing = import_module("mmengine.structures").InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    samples = [describe(metainfo=sample, gt_instances=nothing.clone()) for _ in range(request.samples)]
    preprocess: Any = model.data_preprocessor
    data = preprocess({"inputs": [image] * request.samples, "data_samples": samples}, training=False)
    return {
        "inputs": data["inputs"].to(request.device, dtype_and_device(model)[0]),
        "data_samples": data["data_samples"],
        "mode": "tensor",
    }
