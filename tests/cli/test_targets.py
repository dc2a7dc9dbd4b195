"""Each kind of target, counted by a process of its own with the library that it names."""

import pytest

from opcount import Profile

NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
"""

CONV = 30 * 30 * 4 * 3 * 3 * 3
RESNET_18 = 1_814_073_344  # 1.814 GMAC in torchvision's own table
LAYER = 4 * 768**2 + 2 * 768 * 3072
BERT = 12 * (16 * LAYER + 2 * 16**2 * 768) + 768**2  # 16 tokens through 12 layers, and the pooler

TARGETS = [
    (["net.py:build", "--shape", "3", "32", "32"], CONV),
    (["net:build", "--shape", "3", "32", "32"], CONV),
    (["torchvision/resnet18"], RESNET_18),
    (["timm/resnet18"], RESNET_18),
    (["transformers/bert", "--seq", "16"], BERT),
    (["resnet18_8xb32_in1k"], RESNET_18 - 512 * 1000),  # mmpretrain counts up to the features, without the classifier
]


@pytest.mark.parametrize(("target", "macs"), TARGETS, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_a_target_is_counted_by_its_library(process, write, tmp_path, target, macs):
    write(NET)
    done = process("count", *target, "--dry-run", "-o", "count.json")
    assert done.returncode == 0, done.stderr
    profile = Profile.from_json((tmp_path / "count.json").read_text())
    assert profile.macs == macs
    assert profile.coverage.complete


def test_a_detector_of_mmyolo_counts_what_is_published(process, tmp_path):
    done = process("count", "rtmdet_tiny_syncbn_fast_8xb32-300e_coco", "-o", "count.json")
    assert done.returncode == 0, done.stderr
    assert f"{Profile.from_json((tmp_path / 'count.json').read_text()).flops / 1e9:.1f}" == "8.1"
