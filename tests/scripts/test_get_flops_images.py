"""``--num-images``: the mean over images of a data set, as mmdetection's own script counts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opcount.reporter.numbers import openmmlab
from tests import shims
from tests.scripts.command import run

RULE = "=" * 30


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "coco"
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("coco_images.py")), str(folder)]
    process = subprocess.run(command, env=shims.child_environment(), capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def closing(number, original, padded, mean):
    images = f"{number} image{'s' * (number > 1)}"
    resized = f"{RULE}\nUse size divisor set input shape from {original} to {padded}\n" if original != padded else ""
    return (
        f"{resized}{RULE}\nCompute type: dataloader: mean of {images}\nInput shape: {padded}\n"
        f"Flops: {openmmlab(mean)}\n"
        f"Params: 21.41M\n{RULE}\n"
    )


@pytest.mark.parametrize("way", ["dry", "real"])
def test_the_mean_and_the_last_size_are_those_of_mmdetections_script(results, way):
    counted, sizes = zip(*results["script"], strict=True)
    assert len(set(counted)) > 1
    status, output, errors = results[way]
    assert status == 0, errors
    assert output.endswith(closing(3, (60, 200), tuple(sizes[-1]), sum(counted) // 3))
    assert "random" not in errors


def test_fewer_images_are_the_first_ones(results):
    (first, _), (second, size), _ = results["script"]
    status, output, errors = results["two"]
    assert status == 0, errors
    assert output.endswith(closing(2, (128, 96), tuple(size), (first + second) // 2))


def test_a_table_is_that_of_the_first_image_and_says_so(results):
    (first, _), *_ = results["script"]
    status, output, errors = results["table"]
    assert status == 0, errors
    assert "All above this line is of the first image." in output
    assert openmmlab(first) in output.partition("All above")[0]


def test_random_images_stand_in_for_a_data_set_that_is_not_here(results):
    status, output, errors = results["random"]
    assert status == 0, errors
    # 480 x 640 within 128 x 96: 96 x 128, a multiple of 32 already, as is the first image of the data set
    assert output.endswith(closing(2, (480, 640), (96, 128), results["script"][0][0]))
    assert "2 random images of 480 x 640 stand in for those of its data set" in errors
    assert "instances_val2017.json' is not here" in errors


def test_a_shape_is_that_of_random_images_before_the_pipeline(results):
    status, output, errors = results["random of a size"]
    assert status == 0, errors
    assert "set input shape from (50, 200) to (32, 128)" in output  # 50 x 200 within 128 x 96: 32 x 128
    assert "2 random images of 50 x 200" in errors


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("one by one", "expected --num-images or --batch-size, got 2 and 2"),
        ("classifier", "expected no --num-images for 'resnet18_8xb32_in1k'"),
        ("no loader", "expected a config with a val_dataloader for --num-images, got none"),
        ("lost", "an image cannot be prepared as the config says: "),
    ],
)
def test_what_cannot_be_is_refused_by_a_sentence(results, case, message):
    status, output, errors = results[case]
    assert (status, output) == (1, "")
    assert message in errors


def test_training_has_no_mean():
    process = run("retinanet_r18_fpn_1x_coco", "--num-images", "3", "--train")
    assert process.returncode == 2
    assert "--num-images counts a forward pass" in process.stderr
