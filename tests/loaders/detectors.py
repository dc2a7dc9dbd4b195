"""Counts detectors as mmdetection's own script does, and by opcount: ``detectors.py CONFIG...`` prints JSON.

For each config: ``script``, the FLOPs of ``tools/analysis_tools/get_flops.py`` in mmdetection 3.3, of a random image in
place of those of a data set; ``flops`` and ``macs``, those of opcount; ``executed``, the MACs of PyTorch's own
``FlopCounterMode``; ``kernels``, the MACs of deformable convolutions, by the arguments that mmcv's kernels get;
``dry``, the FLOPs of a dry run, or why there is none.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter
from opcount.errors import DryRunError
from opcount.loaders import Request, load
from opcount.loaders.hub import find_config
from opcount.loaders.step import forward

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (320, 416)
_OUTPUTS = {"deform_conv_forward": 3, "modulated_deform_conv_forward": 6}
"""Kernels, and the place of the output among their arguments; the weight is the second."""


def by_script(config: str) -> int:
    """Return what mmdetection's script says of an image."""
    settings = Config.fromfile(find_config(config))
    init_default_scope(settings.get("default_scope", "mmdet"))
    model = revert_sync_batchnorm(import_module("mmdet.registry").MODELS.build(settings.model))
    model.eval()
    if hasattr(getattr(model, "rpn_head", None), "init_proposal_bboxes"):
        model.rpn_head.init_weights()  # random boxes have negative sizes, which mmcv refuses on a CPU
    boxes = import_module("mmengine.structures").InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    sample = import_module("mmdet.structures").DetDataSample(
        metainfo={"ori_shape": SHAPE, "img_shape": SHAPE, "scale_factor": (1.0, 1.0), "img_id": 0}, gt_instances=boxes
    )
    image = torch.randint(0, 256, (3, *SHAPE), dtype=torch.uint8)
    data = model.data_preprocessor({"inputs": [image], "data_samples": [sample]})
    model.forward = partial(model.forward, data_samples=data["data_samples"])
    analyzer = FlopAnalyzer(model, data["inputs"]).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analyzer.total())


@contextmanager
def watched_kernels() -> Iterator[list[int]]:
    """Yield the MACs of deformable convolutions: one for each output, input channel of its group, and tap."""
    extension: Any = import_module("mmcv._ext")
    kernels, macs = {name: getattr(extension, name) for name in _OUTPUTS}, []

    def watch(name: str, *args: Any, **kwargs: Any) -> Any:
        macs.append(args[_OUTPUTS[name]].numel() * prod(args[1].shape[1:]))
        return kernels[name](*args, **kwargs)

    try:
        for name in kernels:
            setattr(extension, name, partial(watch, name))
        yield macs
    finally:
        for name, kernel in kernels.items():
            setattr(extension, name, kernel)


def count(config: str) -> dict[str, Any]:
    """Return all numbers of a config."""
    loaded = load(config, Request(shape=SHAPE))
    with OpCounter() as counter:
        forward(loaded)
    with watched_kernels() as kernels, FlopCounterMode(display=False) as mode:
        forward(loaded)
    try:
        with OpCounter(dry_run=True) as hollow:
            forward(loaded)
        dry: Any = hollow.flops
    except DryRunError as error:
        dry = str(error)
    return {
        "script": by_script(config),
        "flops": counter.flops,
        "macs": counter.macs,
        "executed": mode.get_total_flops() // 2,
        "kernels": sum(kernels),
        "dry": dry,
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    with redirect_stdout(sys.stderr):
        results = {config: count(config) for config in sys.argv[1:]}
    json.dump(results, sys.stdout)
