"""An OpenMMLab config becomes a model through mmengine's Config and registries; nothing is ever downloaded.

The model is prepared as in the packages' own ``get_flops.py``: mmpretrain models run ``extract_feat``; detectors
get their synchronized batch norms reverted, their re-parameterizable blocks fused, and their inputs from their
preprocessor.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.functional import pad

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.declared_sizes import declared_shapes, first_that_fits
from opcount.loaders.fetches import missing_repository, nothing_fetched, package_versions_known
from opcount.loaders.hub import find_config
from opcount.loaders.input_tensors import image_shape, random_batch
from opcount.loaders.openmmlab_images import images
from opcount.loaders.openmmlab_settings import check_packages, model_settings, read, require, scope_of, without_key
from opcount.loaders.request import Loaded
from opcount.model_inputs import dtype_and_device, random_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from torch import Tensor, nn

    from opcount.loaders.request import Request

    Maker: TypeAlias = Callable[[tuple[int, ...]], Loaded]

_CLASSIFIERS = {"mmpretrain", "mmcls"}
_DETECTORS = {"mmdet", "mmyolo"}
_RECOGNIZERS = {"mmaction"}
_SIZES = {"mmseg": (2048, 1024), "mmpose": (256, 192), "mmocr": (640, 640)}
"""Height and width that the scripts of packages without a maker of their own here take by default."""
_SPARSE = "mmpretrain.models.utils.sparse_modules"
"""Module of the layers that SparK's models are made of."""
_PROPOSALS = 1000
"""Regions of an image for a detector that finds none itself: as many as those that do leave at most."""


def load(target: str, request: Request) -> Loaded:
    """Build the model of a config, by path or name, and inputs for it.

    Raises:
        LoadError: A package is missing, there is no such config, or its model cannot be built.
        InputError: The shape does not suit the model.
    """
    path = find_config(target)
    require("mmengine", target)
    config = read(path, request.use("cfg_options"))
    scope = scope_of(config, path)
    if scope == "mmengine":
        raise LoadError(
            f"load: expected a config whose default_scope names the package that builds its model, got {str(path)!r} "
            f"with the type {config.model.get('type')!r}, which no package here knows. Add default_scope to it."
        )
    require(scope, target)
    settings = model_settings(config, path)
    check_packages(settings, target)
    model = _build(settings, scope, path)
    make, default = _kind(model, scope, request)
    if request.use("shape"):
        loaded, why = make(image_shape(request.shape, (3, *default))), ""
    else:
        loaded, why = first_that_fits(make, [(3, *default), *declared_shapes(config, model, default)])
    if loaded.style == "detector" and request.use("num_images"):
        return _with_images(loaded, config, request)
    if not why:
        return loaded
    note = (
        f"{path.name} is counted at {loaded.shape}, a size that it declares: the model does not accept "
        f"{(3, *default)} ({why.rstrip('.')}). Another: --shape H W"
    )
    return replace(loaded, note="; ".join(filter(None, (note, loaded.note))))


def _build(settings: Any, scope: str, path: Path) -> nn.Module:
    try:
        with nothing_fetched(), package_versions_known():
            try:
                return _built(settings, scope)
            except TypeError as error:
                if "switch_to_deploy" not in str(error):
                    raise
            model = _built(without_key(settings, "deploy"), scope)  # a part that fails to deploy itself when it is made
            _switch_to_deploy(model)
    except LoadError:
        raise
    except (Exception, SystemExit) as error:
        raise LoadError(
            f"load: the model of the config {str(path)!r} cannot be built: {blame(error).rstrip('.')}.{_advice(error)}"
        ) from error
    return model


def _built(settings: Any, scope: str) -> nn.Module:
    if find_spec(scope) is not None:
        import_module(scope)  # mmengine imports those of OpenMMLab alone
    registry = import_module("mmengine.registry")
    registry.init_default_scope(scope)
    with registry.DefaultScope.overwrite_default_scope(scope):
        model: nn.Module = registry.MODELS.build(settings)
    return model


def _advice(error: BaseException) -> str:
    """Return what to store where the error is about a file, and what to install where it is about mmcv."""
    if name := missing_repository(error):
        return f" {name!r} is not on this machine, and nothing is downloaded: store it, and name its folder."
    if "mmcv" not in str(error).lower():
        return ""
    return (
        " mmdet and mmyolo need an mmcv with its operators, of a version that they accept; mmpretrain alone needs no "
        "more than: pip install 'mmcv-lite>=2.0.1,<2.1'"
    )


def _kind(model: nn.Module, scope: str, request: Request) -> tuple[Maker, tuple[int, int]]:
    """Return what makes a model ready for a count, with inputs of a shape, and the default height and width."""
    roots = {each.__module__.partition(".")[0] for each in type(model).__mro__}
    if scope in _CLASSIFIERS or (roots & _CLASSIFIERS and not roots & _DETECTORS):
        return partial(_classifier, _featuring(model, scope, request), request), (224, 224)
    if scope in _RECOGNIZERS and hasattr(model, "extract_feat"):
        return partial(_recognizer, _featuring(model, scope, request), request), (224, 224)
    if not roots & _DETECTORS:
        if scope == "mmseg" and hasattr(model, "auxiliary_head"):
            setattr(model, "auxiliary_head", None)  # noqa: B010  (mypy; it takes part in training alone)
        model = model.to(request.device)
        model.train(request.train)
        return partial(_predictor, model, request), _SIZES.get(scope, (224, 224))
    if not _has_tensor_mode(model):
        raise LoadError(
            f"load: expected a model that runs on images, got {type(model).__name__}, which tracks objects in videos "
            "and has no tensor mode. Count the config of its detector."
        )
    return partial(_detector, _inferring(model, request), scope, request), (640, 640)


def _has_tensor_mode(model: nn.Module) -> bool:
    return not any(each.__name__ == "BaseMOTModel" for each in type(model).__mro__)


def _featuring(model: nn.Module, scope: str, request: Request) -> nn.Module:
    """Replace ``forward`` by ``extract_feat``: the parameters of the head count, its operators do not."""
    if not hasattr(model, "extract_feat"):
        raise LoadError(
            f"load: expected a model of {scope} with extract_feat, got {type(model).__name__}. Build it in a Python "
            "file whose model calls what you want counted, and pass FILE.py:factory."
        )
    model = model.to(request.device)
    model.train(request.train)
    masked = callable(getattr(model, "mask", None)) and hasattr(sys.modules.get(_SPARSE), "SparseHelper")
    model.forward = MethodType(_masked, model) if masked else model.extract_feat  # type: ignore[assignment]
    return model


def _masked(model: Any, inputs: Tensor) -> Any:
    """Extract features of the part of images that the model's mask leaves: its layers look for the mask in a class."""
    helper = sys.modules[_SPARSE].SparseHelper
    helper._cur_active = model.mask(inputs.shape, inputs.device)  # noqa: SLF001  (as the model itself sets it)
    try:
        return model.extract_feat(inputs)
    finally:
        helper._cur_active = None  # noqa: SLF001


def _classifier(model: nn.Module, request: Request, shape: tuple[int, ...]) -> Loaded:
    return Loaded(model, random_batch(model, shape, request), "classifier", shape)


def _recognizer(model: nn.Module, request: Request, shape: tuple[int, ...]) -> Loaded:
    """Return a model of videos: its shapes begin with the number of segments, an image is one of them."""
    shape = (1, *shape) if len(shape) == 3 else shape
    return Loaded(model, random_batch(model, shape, request), "library", shape)


def _predictor(model: nn.Module, request: Request, shape: tuple[int, ...]) -> Loaded:
    """Return a model of a package that has no script of its own here: it is called as mmengine's models are."""
    batch = random_batch(model, shape, request)
    modes = isinstance(model, import_module("mmengine.model").BaseModel)
    inputs: Any = {"inputs": batch, "data_samples": None, "mode": "tensor"} if modes else batch
    return Loaded(model, inputs, "library", shape)


def _inferring(model: nn.Module, request: Request) -> nn.Module:
    model = import_module("mmengine.model").revert_sync_batchnorm(model)
    model.train(request.train)  # those that hold a teacher return None
    if not request.train:
        _switch_to_deploy(model)
    return model.to(request.device)


def _detector(model: nn.Module, scope: str, request: Request, shape: tuple[int, ...]) -> Loaded:
    asked = shape[1:]
    if len(shape) != 3:
        raise InputError(f"load: expected one size, or height and width, got {request.shape!r}. Pass --shape H W.")
    stride = _stride(model) if scope == "mmyolo" else 1
    image = pad(random_tensor(shape, torch.float32, "cpu"), [0, -shape[2] % stride, 0, -shape[1] % stride])
    inputs = _preprocessed(model, image, asked, request)
    padded = inputs["inputs"].shape[-2:]
    note = ""
    if hasattr(getattr(model, "rpn_head", None), "init_proposal_bboxes"):
        cast("Any", model.rpn_head).init_weights()  # random boxes have negative sizes, which mmcv refuses on a CPU
    if _needs_proposals(model):
        note = f"the model gets {_PROPOSALS} random proposals for each image, for it makes none"
    return Loaded(model, inputs, "detector", padded, None if tuple(padded) == asked else asked, note)


def _with_images(loaded: Loaded, config: Any, request: Request) -> Loaded:
    """Have the mean over images counted that the config's own pipeline prepares."""
    if request.batch_size:
        raise InputError(
            f"load: expected --num-images or --batch-size, got {request.num_images} and {request.batch_size}: images "
            "are counted one by one. Leave out one of them."
        )
    prepared = partial(_inputs, loaded.model, request)
    found, note = images(config, request.use("num_images"), request.shape[-2:], prepared)
    return replace(loaded, images=found, note="; ".join(filter(None, (note, loaded.note))))


def _needs_proposals(model: nn.Module) -> bool:
    return getattr(model, "with_rpn", True) is False and hasattr(model, "roi_head")


def _regions(size: tuple[int, ...]) -> Tensor:
    """Return random boxes ``(left, top, right, bottom)`` inside an image of a height and width."""
    corners = torch.rand(_PROPOSALS, 2, 2).sort(1).values * torch.tensor([size[1], size[0]])
    return corners.flatten(1)


def _switch_to_deploy(model: nn.Module) -> None:
    """Fuse the branches of the blocks that know how to; what a block asks for is its own, or the model's.

    Raises:
        LoadError: A block asks for what neither has.
    """
    for path, module in list(model.named_modules()):
        switch = getattr(module, "switch_to_deploy", None)
        if callable(switch) and not getattr(module, "deploy", False):
            arguments = {name: _attribute(name, path, module, model) for name in _required(switch)}
            switch(**arguments)


def _required(function: Callable[..., object]) -> Iterator[str]:
    for name, each in signature(function).parameters.items():
        if each.default is each.empty and each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}:
            yield name


def _attribute(name: str, path: str, *owners: nn.Module) -> object:
    for owner in owners:
        if hasattr(owner, name):
            return getattr(owner, name)
    kinds = " nor ".join(dict.fromkeys(type(owner).__name__ for owner in owners))
    raise LoadError(
        f"load: expected {path}.switch_to_deploy to ask for attributes of the model, got the argument {name!r}, which "
        f"neither {kinds} has. Count the model as it trains, with --train, or build it in a Python file: "
        "FILE.py:factory."
    )


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
    instances = import_module("mmengine.structures").InstanceData
    nothing = instances(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    samples = [describe(metainfo=sample, gt_instances=nothing.clone()) for _ in range(request.samples)]
    return _inputs(model, request, {"inputs": [image] * request.samples, "data_samples": samples})


def _inputs(model: nn.Module, request: Request, batch: dict[str, Any]) -> dict[str, Any]:
    """Return what a model is called with for a batch of a data loader, preprocessed by the model."""
    if _needs_proposals(model):
        for sample, image in zip(batch["data_samples"], batch["inputs"], strict=True):
            boxes = _regions(tuple(image.shape[-2:]))
            sample.proposals = import_module("mmengine.structures").InstanceData(bboxes=boxes)
    preprocess: Any = model.data_preprocessor
    data = preprocess(batch, training=False)
    return {
        "inputs": data["inputs"].to(request.device, dtype_and_device(model)[0]),
        "data_samples": data["data_samples"],
        "mode": "tensor",
    }
