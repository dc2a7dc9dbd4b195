"""The script on models of mmpretrain, mmdet and mmyolo, from the configs that ship inside these packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shims
from tests.compat import reference
from tests.scripts.command import run

RULE = "=" * 30
RESNET50 = "resnet50_8xb32_in1k"
VIT = "vit-base-p16_64xb64_in1k"
RTMDET = "rtmdet_s_syncbn_fast_8xb32-300e_coco"
YOLOV5 = "yolov5_s-v61_syncbn_fast_8xb16-300e_coco"
SWIN = "swin-tiny_16xb64_in1k"

PUBLISHED = {
    "mmpretrain/resnet50_8xb32_in1k": RESNET50,
    "mmpretrain/vit-base-p16_64xb64_in1k [decomposed attention]": VIT,
    "mmpretrain/swin-tiny_16xb64_in1k": SWIN,
    "mmyolo/rtmdet_s_syncbn_fast_8xb32-300e_coco": RTMDET,
    "mmyolo/yolov5_s-v61_syncbn_fast_8xb16-300e_coco": YOLOV5,
}
SHOWN = {
    RTMDET: "RTMDetHead(",
    "yolov8_n_syncbn_fast_8xb16-500e_coco": "YOLOv8Head(",
    "yolov6_n_syncbn_fast_8xb32-400e_coco": "YOLOv6Head(",
    "ppyoloe_s_fast_8xb32-300e_coco": "PPYOLOEHead(",
}
BRIEF = ["--not-show-table", "--no-show-arch"]
REPORTS = {
    "vit": [VIT],
    "rtmdet": [RTMDET, "--show-arch"],
    "unaligned": [RTMDET, "--shape", "600", "801", "--not-show-table", "--device", "meta"],
    "trained": [RTMDET, "--shape", "64", "--train", "--not-show-table"],
    "batch": [YOLOV5, "--shape", "64", "--batch-size", "2", "--not-show-table"],
    "mmdet": ["retinanet_r18_fpn_1x_coco", "--shape", "64", "--not-show-table"],
    "two stages": ["faster-rcnn_r50_fpn_1x_coco", "--shape", "64", "--not-show-table"],
    "deployed": ["yolov6_n_syncbn_fast_8xb32-400e_coco", "--shape", "64", "--show-arch"],
    "options": [
        "resnet18_8xb32_in1k",
        "--cfg-options",
        "model.backbone.depth=34",
        "--not-show-table",
        "--no-show-arch",
    ],
    "wrong options": ["resnet18_8xb32_in1k", "--cfg-options", "model.backbone.depth=35"],
    "wrong shape": ["swinv2-tiny-w8_16xb64_in1k-256px", "--shape", "224"],
    "declared size": ["swinv2-tiny-w8_16xb64_in1k-256px", *BRIEF],
    "declared height and width": ["reid_r50_8xb32-6e_mot17train80_test-mot17val20", "--not-show-table"],
    "declared channels": ["lenet5_mnist", *BRIEF],
    "size of no need": ["vit-base-p16_64xb64_in1k-384px", *BRIEF],
    "no scope": ["vit-small-p14_dinov2-pre_headless", *BRIEF],
    "deploy": ["levit/deploy/levit-128s_8xb256_in1k", *BRIEF],
    "to deploy": ["levit/levit-128s_8xb256_in1k", *BRIEF],
    "teacher": ["ld_r50-gflv1-r101_fpn_1x_coco", "--shape", "64", "--not-show-table"],
    "student": ["gfl_r50_fpn_1x_coco", "--shape", "64", "--not-show-table"],
    "mask": ["spark_sparse-convnextv2-tiny_16xb256-amp-coslr-800e_in1k", *BRIEF],
    "augmentations": ["resnet50_8xb32-cutmix_in1k", "--shape", "64", *BRIEF],
    "base that seems lazy": ["replknet/replknet-31B_32xb64_in1k", "--shape", "64", *BRIEF],
    "fetch": ["milan_vit-base-p16_16xb256-amp-coslr-400e_in1k"],
    "tokenizer": ["glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365"],
    "part of another package": ["kd_tiny_rtmdet_s_neck_300e_coco"],
    "videos": ["qdtrack_faster-rcnn_r50_fpn_4e_base"],
    "three sizes": ["lenet5_mnist", "--shape", "1", "32", "32", "--not-show-table", "--no-show-arch"],
    "no model": ["resnet50_8xb32_in2k"],
    **{target: [target, "--shape", "64", "--show-arch", "--not-show-table"] for target in SHOWN},
}


@pytest.fixture(scope="module")
def results():
    """Return the results of `several`: reports and counts by module, by name."""
    jobs = [["report", arguments] for arguments in REPORTS.values()] + [
        ["modules", name] for name in PUBLISHED.values()
    ]
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("several.py"))]
    process = subprocess.run(
        command, input=json.dumps(jobs), env=shims.child_environment(), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return dict(zip([*REPORTS, *PUBLISHED], json.loads(process.stdout.splitlines()[-1]), strict=True))


def test_resnet_50_of_mmpretrain_is_the_published_table_to_the_byte():
    result = run(RESNET50)
    table = (reference.REFERENCE / "seeds" / "resnet50_mmpretrain.table.txt").read_text()
    assert result.returncode == 0, result.stderr
    assert table in result.stdout
    assert result.stdout.endswith(
        f"{RULE}\nInput shape: (3, 224, 224)\nFlops: 4.109G\nParams: 25.557M\nActivation: 11.114M\n{RULE}\n"
    )
    assert "#params: 25.557M" in result.stdout or "#params: 25.56M" in result.stdout  # the architecture, two decimals


def test_vit_base_of_mmpretrain_is_the_published_table(results):
    status, output, errors = results["vit"]
    assert status == 0, errors
    assert reference.cells(output) == reference.seed("vit_base_p16_mmpretrain")
    assert output.endswith(
        f"{RULE}\nInput shape: (3, 224, 224)\nFlops: 17.582G\nParams: 91.234M\nActivation: 23.895M\n{RULE}\n"
    )


def test_rtmdet_s_of_mmyolo_is_the_published_table_also_with_its_architecture(results):
    status, output, errors = results["rtmdet"]
    assert status == 0, errors
    assert reference.cells(output) == reference.seed("rtmdet_s_mmyolo")
    assert "(bbox_head): RTMDetHead(" in output
    assert output.endswith(
        f"{RULE}\nInput shape: torch.Size([640, 640])\nModel Flops: 14.835G\nModel Parameters: 8.887M\n{RULE}\n"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_module_of_a_published_model_counts_the_same(results, name):
    flops, activations, params = results[name]
    reference.assert_published(name, flops, activations)
    assert params == reference.published(name).params


@pytest.mark.parametrize("target", SHOWN)
def test_every_detector_shows_its_architecture(results, target):
    status, output, errors = results[target]
    assert status == 0, errors
    assert SHOWN[target] in output


def test_an_unaligned_shape_is_padded_to_the_models_stride(results):
    status, output, errors = results["unaligned"]
    assert status == 0, errors
    # the largest stride is 32: 600 -> 19 x 32 = 608, 801 -> 26 x 32 = 832
    assert output.endswith(
        f"{RULE}\nUse size divisor set input shape from (600, 801) to torch.Size([608, 832])\n"
        f"{RULE}\nInput shape: torch.Size([608, 832])\nModel Flops: 18.321G\nModel Parameters: 8.887M\n{RULE}\n"
    )


def test_a_detector_in_train_mode_counts_forward_and_backward(results):
    status, output, errors = results["trained"]
    assert status == 0, errors
    assert [line.split()[1] for line in output.splitlines() if line.startswith("|")] == [
        "phase",
        "forward",
        "backward",
        "total",
    ]


def test_a_batch_of_a_detector_is_counted_whole(results):
    status, output, errors = results["batch"]
    assert status == 0, errors
    # published at 640 x 640: 8,265,318,400; at 64 x 64 a hundredth of it, twice
    assert "Batch size: 2\nModel Flops: 0.165G\nModel Parameters: 7.235M\n" in output


@pytest.mark.parametrize("name", ["mmdet", "two stages"])
def test_detectors_of_mmdet_are_counted_with_their_heads(results, name):
    status, output, errors = results[name]
    assert status == 0, errors
    assert "every operator is accounted for" in output
    assert "Input shape: torch.Size([64, 64])\nModel Flops: " in output


def test_branches_that_inference_fuses_are_fused(results):
    status, output, errors = results["deployed"]
    assert status == 0, errors
    assert "rbr_reparam" in output
    assert "rbr_dense" not in output


def test_settings_override_the_config(results):
    status, output, errors = results["options"]
    assert status == 0, errors
    assert "Params: 21.798M\n" in output  # of ResNet-34


def test_an_image_of_one_channel_is_given_by_three_sizes(results):
    status, output, errors = results["three sizes"]
    assert status == 0, errors
    assert "Input shape: (1, 32, 32)\n" in output
    # 120 x 84 + 84 and 84 x 10 + 10 stand in the classifier; 6 x 25 + 6, 16 x 150 + 16 and 120 x 400 + 120 before it
    assert "Params: 61.706K\n" in output


@pytest.mark.parametrize(
    ("name", "shape", "refused"),
    [
        ("declared size", "(3, 256, 256)", "(3, 224, 224)"),
        ("declared height and width", "torch.Size([256, 128])", "(3, 640, 640)"),
        ("declared channels", "(1, 32, 32)", "(3, 224, 224)"),
    ],
)
def test_a_model_that_refuses_the_default_shape_is_counted_at_the_one_its_config_declares(
    results, name, shape, refused
):
    status, output, errors = results[name]
    assert status == 0, errors
    assert f"Input shape: {shape}\n" in output
    assert f"is counted at {shape}, a size that it declares: the model does not accept {refused} (" in errors
    assert "Another: --shape H W" in errors


@pytest.mark.parametrize("name", ["size of no need", "no scope"])
def test_a_model_that_accepts_the_default_shape_is_counted_at_it(results, name):
    status, output, errors = results[name]
    assert (status, errors) == (0, "")
    assert "Input shape: (3, 224, 224)\n" in output


def _total(result: list[object], name: str) -> str:
    return next(line for line in str(result[1]).splitlines() if line.startswith(name))


def test_a_student_counts_as_the_plain_model(results):
    assert _total(results["teacher"], "Model Flops: ") == _total(results["student"], "Model Flops: ")


def test_a_model_made_for_deployment_has_no_batch_norms_left(results):
    # both have 303,892,832 MACs; the convention counts the arithmetic of batch norms besides
    assert _total(results["deploy"], "Flops: ") == "Flops: 0.304G"
    assert _total(results["to deploy"], "Flops: ") == "Flops: 0.306G"


@pytest.mark.parametrize(
    ("name", "shape"), [("mask", (3, 224, 224)), ("augmentations", (3, 64, 64)), ("base that seems lazy", (3, 64, 64))]
)
def test_a_model_that_is_masked_or_augmented_or_inherits_oddly_is_counted(results, name, shape):
    status, output, errors = results[name]
    assert status == 0, errors
    assert f"Input shape: {shape}\n" in output


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("fetch", ["expected the file https://download.openmmlab.com/", "Nothing is downloaded for a count: store"]),
        ("tokenizer", ["'bert-base-uncased' is not on this machine, and nothing is downloaded: store it"]),
        ("part of another package", ["needs mmrazor, which is not installed. Install mmrazor, or build"]),
        ("videos", ["got QDTrack, which tracks objects in videos and has no tensor mode. Count the config of its"]),
        ("wrong options", ["cannot be built: KeyError at ", "resnet.py:", "invalid depth 35 for resnet"]),
        ("wrong shape", ["the model raised AssertionError in backbone.stages.3.blocks.0.attn (ShiftWindowMSA) at "]),
        ("no model", ["got 'resnet50_8xb32_in2k', which does not exist. Did you mean resnet50_8xb32_in1k"]),
    ],
)
def test_what_cannot_be_counted_fails_with_a_sentence(results, name, messages):
    status, output, errors = results[name]
    assert (status, output) == (1, "")
    for message in messages:
        assert message in errors
