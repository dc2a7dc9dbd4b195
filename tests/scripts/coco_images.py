"""Counts detectors over a data set as mmdetection's own script does, and with ours: prints JSON.

The folder that is given gets a data set in COCO's format, of images of several sizes. For each way of counting,
``[status, output, errors]`` of our script; under ``script``, FLOPs and padded size of each image, as
``tools/analysis_tools/get_flops.py`` of mmdetection 3.3 finds them when it loads pictures from a data set.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from opcount.loaders.hub import find_config
from tests.scripts.several import report

CONFIG = "retinanet_r18_fpn_1x_coco"
SIZES = [(96, 128), (128, 96), (60, 200)]
SCALE = [128, 96]
BRIEF = ["--not-show-table", "--num-images"]


def write_data_set(folder: Path) -> None:
    """Write images, and their annotations."""
    (folder / "val2017").mkdir(parents=True)
    pixels = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        cv2.imwrite(str(folder / f"val2017/{number}.jpg"), pixels.integers(0, 256, (*size, 3), dtype=np.uint8))
    described = [
        {"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i, (height, width) in enumerate(SIZES)
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for i in range(len(SIZES))
    ]
    classes = [{"id": 1, "name": "person"}]
    (folder / "annotations").mkdir()
    written = json.dumps({"images": described, "annotations": boxes, "categories": classes})
    (folder / "annotations/instances_val2017.json").write_text(written, "utf-8")


def by_script(folder: Path) -> list[tuple[int, list[int]]]:
    """Return what mmdetection's script counts for each image, and the size that it prints."""
    settings = Config.fromfile(find_config(CONFIG))
    settings.merge_from_dict(options(folder))
    settings.val_dataloader.update(batch_size=1, num_workers=0, persistent_workers=False)
    init_default_scope(settings.default_scope)
    model: Any = revert_sync_batchnorm(import_module("mmdet.registry").MODELS.build(settings.model)).eval()
    forward, counted = model.forward, []
    for batch in Runner.build_dataloader(settings.val_dataloader):
        data = model.data_preprocessor(batch)
        model.forward = partial(forward, data_samples=data["data_samples"])
        analyzer = FlopAnalyzer(model, data["inputs"]).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted.append((int(analyzer.total()), list(data["data_samples"][0].batch_input_shape)))
    return counted


def options(folder: Path) -> dict[str, Any]:
    """Return settings that name the data set, and make its images small; no weights are fetched."""
    pipeline = "val_dataloader.dataset.pipeline.1.scale"
    return {
        "val_dataloader.dataset.data_root": f"{folder}/",
        "val_dataloader.dataset.ann_file": str(folder / "annotations/instances_val2017.json"),
        pipeline: tuple(SCALE),
        "model.backbone.init_cfg": None,
    }


def main(folder: Path) -> dict[str, Any]:
    """Count in all ways."""
    write_data_set(folder)
    settings = [f"{key}={value}".replace(" ", "") for key, value in options(folder).items() if value is not None]
    with_data = [CONFIG, "--cfg-options", *settings]
    results = {
        "dry": report([*with_data, *BRIEF, "100"]),
        "real": report([*with_data, "--real", *BRIEF, "100"]),
        "two": report([*with_data, *BRIEF, "2"]),
        "table": report([*with_data, "--num-images", "1"]),
        "random": report([CONFIG, "--cfg-options", settings[2], *BRIEF, "2"]),
        "random of a size": report([*with_data, *BRIEF, "2", "--shape", "50", "200"]),
        "one by one": report([*with_data, *BRIEF, "2", "--batch-size", "2"]),
        "classifier": report(["resnet18_8xb32_in1k", "--num-images", "2"]),
        "no loader": report([CONFIG, "--cfg-options", "val_dataloader=None", *BRIEF, "2"]),
        "script": by_script(folder),
    }
    (folder / "val2017/1.jpg").unlink()
    return {**results, "lost": report([*with_data, *BRIEF, "3"])}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        found = main(Path(sys.argv[1]))
    json.dump(found, sys.stdout)
