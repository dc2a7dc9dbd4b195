"""Configs of OpenMMLab packages: what is read from them, what is left out, and what is said of those refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.request import OpenerDirector, urlopen

import pytest
import torch
from torch import nn

from opcount.errors import LoadError
from opcount.loaders import openmmlab
from opcount.loaders.declared_sizes import declared_shapes, first_that_fits
from opcount.loaders.fetches import FetchError, nothing_fetched, package_versions_known
from opcount.loaders.openmmlab_settings import check_packages, countable, scope_of, without_key
from opcount.loaders.request import Loaded
from tests import shims
from tests.compat import reference

KINDS = json.loads((reference.REFERENCE / "openmmlab_refusals.json").read_text("utf-8"))
CHUNKS = {"mmpretrain": 60, "mmdet": 90, "mmyolo": 30}
WALKED = CHUNKS if os.environ.get("OPCOUNT_WALK") else dict.fromkeys(CHUNKS, 1)  # the rest by hand: it takes an hour
IMAGES = nn.Sequential(nn.Conv2d(3, 4, 1))


class Config(dict):
    """A config, whose model is an attribute, too."""

    @property
    def model(self):
        """Return the settings of the model."""
        return self["model"]


def _tested(*transforms: dict[str, object]) -> Config:
    return Config(model={}, test_dataloader={"dataset": {"pipeline": list(transforms)}})


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (_tested({"scale": 256, "edge": "short"}, {"crop_size": 224}), []),
        (_tested({"scale": 438, "edge": "short"}, {"crop_size": 384}), [(3, 384, 384)]),
        (_tested({"scale": (128, 256), "keep_ratio": False}), [(3, 256, 128)]),  # transforms give the width first
        (_tested({"scale": (1333, 800), "keep_ratio": True}), []),
        (_tested({"input_size": (192, 256)}), [(3, 256, 192)]),
        (_tested({"clip_len": 8}, {"crop_size": 112}), [(3, 112, 112), (1, 3, 8, 112, 112), (1, 3, 8, 224, 224)]),
        (_tested({"clip_len": 1, "num_clips": 6}), [(6, 3, 224, 224)]),
        (Config(model={"backbone": {"img_size": (384, 192)}}), [(3, 384, 192)]),
        (
            Config(model={"backbone": [{"img_size": 256}]}, test_pipeline=[{"scale": 320}]),
            [(3, 320, 320), (3, 256, 256)],
        ),
        (Config(model={"img_size": True, "input_size": 0, "image_size": "224"}), []),
    ],
)
def test_sizes_are_read_from_the_pipeline_that_tests_and_from_the_model(config, shapes):
    assert declared_shapes(config, IMAGES, (224, 224)) == shapes


def test_channels_are_those_of_the_first_convolution():
    grey = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1))
    assert declared_shapes(_tested({"scale": 32}), grey, (224, 224)) == [(1, 32, 32), (1, 224, 224)]


class Deployable(nn.Module):
    """Asks for arguments when it is made fit for inference."""

    deploy = False

    def switch_to_deploy(self, test_cfg, width=3, *rest, **others):
        """Remember what was passed."""
        self.deploy = (test_cfg, width, rest, others)


class Deployed(nn.Module):
    """Has what its parts ask for."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.test_cfg = {"input_size": 64}


def test_a_part_is_deployed_with_attributes_of_its_own_before_those_of_the_model():
    first, second = Deployable(), Deployable()
    second.test_cfg = "own"
    openmmlab._switch_to_deploy(Deployed(first, second))
    assert (first.deploy, second.deploy) == (({"input_size": 64}, 3, (), {}), ("own", 3, (), {}))


def test_a_part_that_asks_for_what_the_model_lacks_is_named():
    with pytest.raises(LoadError, match=r"expected 0\.switch_to_deploy .* neither Deployable nor Seq"):
        openmmlab._switch_to_deploy(nn.Sequential(Deployable()))


class Picky(nn.Module):
    """Accepts one height."""

    def forward(self, images):
        """Return the images."""
        if images.shape[2] != 6:
            raise ValueError(f"height {images.shape[2]}")
        return images


@pytest.mark.parametrize(
    ("model", "counted", "why"),
    [(Picky(), (3, 6, 6), "height 4"), (IMAGES, (3, 4, 4), ""), (nn.Linear(9, 1), (3, 4, 4), "")],
)
def test_the_first_shape_that_a_model_accepts_is_counted_the_default_if_it_accepts_none(model, counted, why):
    def make(shape):
        return Loaded(model, torch.zeros(1, *shape), "library", shape)

    loaded, refused = first_that_fits(make, [(3, 4, 4), (3, 5, 5), (3, 6, 6)])
    assert loaded.shape == counted
    assert why in refused
    assert bool(refused) == bool(why)


def test_settings_lose_weights_and_augmentations_at_any_depth_and_gain_the_path_of_a_teacher(tmp_path):
    (tmp_path / "configs" / "student").mkdir(parents=True)
    teacher = tmp_path / "configs" / "teacher.py"
    teacher.touch()
    settings = {
        "backbone": {
            "init_cfg": {},
            "depth": 18,
            "norm": [{"type": "MMSyncBN", "pretrained": "x"}, {"pretrained": True}],
        },
        "train_cfg": {"augments": {}, "rpn": {"pos_iou_thr": 0.7}},
        "teacher_config": "configs/teacher.py",
        "other": "absent.py",
    }
    assert countable(settings, tmp_path / "configs" / "student" / "a.py") == {
        "backbone": {"depth": 18, "norm": [{"type": "SyncBN", "pretrained": None}, {"pretrained": False}]},
        "train_cfg": {"rpn": {"pos_iou_thr": 0.7}},
        "teacher_config": str(teacher),
        "other": "absent.py",
    }


def test_a_setting_is_left_out_at_any_depth():
    assert without_key({"a": [{"deploy": True, "b": (1, {"deploy": 1})}]}, "deploy") == {"a": [{"b": (1, {})}]}


@pytest.mark.parametrize(
    ("settings", "path", "scope"),
    [
        ({"default_scope": "mmseg", "model": {"type": "mmdet.A"}}, "a.py", "mmseg"),
        ({"default_scope": "mmengine", "model": {"type": "mmdet.A"}}, "a.py", "mmdet"),
        ({"model": {"type": nn.Linear}}, "a.py", "torch"),
        ({"model": {"type": "A"}}, "site/mmpose/.mim/configs/b/a.py", "mmpose"),
    ],
)
def test_the_package_that_builds_a_model_is_told_by_config_type_or_folder(settings, path, scope):
    assert scope_of(Config({**settings, "model": settings["model"]}), Path(path)) == scope


@pytest.mark.parametrize("settings", [{"a": [{"type": "mmabsent.A"}]}, {"a": {"type": "B", "_scope_": "mmabsent"}}])
def test_a_part_of_a_package_that_is_not_installed_is_refused_by_the_name_of_the_package(settings):
    with pytest.raises(LoadError, match=r"'a\.py' needs mmabsent, which is not installed\. Install mmabsent"):
        check_packages(settings, "a.py")


def test_nothing_is_fetched_and_the_address_is_named(tmp_path):
    file = tmp_path / "weights"
    file.write_text("stored")
    opener = OpenerDirector.open
    with nothing_fetched():
        with pytest.raises(FetchError, match=r"expected the file https://example\.invalid/a\.pth on this machine"):
            urlopen("https://example.invalid/a.pth")
        assert urlopen(file.as_uri()).read() == b"stored"  # noqa: S310
    assert OpenerDirector.open is opener


def test_versions_of_packages_are_known_without_pkg_resources():
    program = """
import importlib, sys
from opcount.loaders.fetches import package_versions_known
from importlib.util import find_spec
if find_spec("pkg_resources") is None:
    with package_versions_known():
        import pkg_resources
        importlib.reload(pkg_resources)
        print(pkg_resources.get_distribution("torch").version)
        try:
            pkg_resources.get_distribution("no such package")
        except pkg_resources.DistributionNotFound:
            pass
    assert "pkg_resources" not in sys.modules and find_spec("pkg_resources") is None
else:
    print("present")
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=shims.ROOT).stdout.strip()
    assert output in {version("torch"), "present"}


def test_package_versions_known_leaves_no_trace():
    before = list(sys.meta_path)
    with package_versions_known():
        pass
    assert sys.meta_path == before


def walked(*chunks):
    """Return the refusals of chunks of packages by path, from one process: importing the packages is what is slow."""
    script = Path(__file__).with_name("walk_configs.py")
    words = [str(word) for package, chunk in chunks for word in (package, chunk, CHUNKS[package])]
    command = [sys.executable, "-W", "ignore", str(script), *words]
    process = subprocess.run(command, env=shims.child_environment(), capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return dict(zip(chunks, json.loads(process.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope="module")
def first_chunks():
    return walked(*((package, 0) for package in CHUNKS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "chunk"), [(package, chunk) for package, chunks in WALKED.items() for chunk in range(chunks)]
)
def test_configs_of_the_packages_are_counted_or_refused_by_what_is_missing(first_chunks, package, chunk):
    refusals = (first_chunks if chunk == 0 else walked((package, chunk)))[package, chunk]
    known = re.compile("|".join(KINDS), re.DOTALL)
    assert {name: why for name, why in refusals.items() if why and not known.search(why)} == {}
    assert package == "mmdet" or list(refusals.values()).count("") > len(refusals) / 2


HOUSES = """
from mmengine.model import BaseModel
from mmengine.registry import MODELS as ALL, Registry
from torch import nn

MODELS = Registry("model", parent=ALL, scope="houses", locations=["houses"])


@MODELS.register_module()
class Counted(BaseModel):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        assert mode == "tensor"
        return self.conv(inputs)
"""
NAMED = "default_scope = 'houses'\nmodel = dict(type='Counted', width=5)\n"
PREFIXED = "model = dict(type='houses.Counted', width=5)\n"
LAZY = "from houses import Counted\nmodel = dict(type=Counted, width=5)\n"
UNKNOWN = "model = dict(type='NoneSuch')\n"


def test_a_model_of_any_package_whose_registry_builds_it_is_counted(tmp_path):
    (tmp_path / "houses.py").write_text(HOUSES)
    configs = {"named": NAMED, "prefixed": PREFIXED, "lazy": LAZY, "unknown": UNKNOWN}
    for name, text in configs.items():
        (tmp_path / f"{name}.py").write_text(text)
    program = f"""
import sys
sys.path[:0] = [{str(shims.ROOT)!r}, {str(tmp_path)!r}]
from opcount import OpCounter
from opcount.errors import LoadError
from opcount.loaders import load, Request
from opcount.loaders.step import forward
for name in {list(configs)}:
    try:
        loaded = load({str(tmp_path)!r} + f"/{{name}}.py", Request(shape=(4, 6)))
    except LoadError as error:
        print(error)
        continue
    with OpCounter() as counter:
        forward(loaded)
    print(counter.profile.total.macs)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=shims.child_environment())
    lines = process.stdout.splitlines()[-4:]  # mmengine logs to the same stream
    assert lines[:3] == [str(4 * 6 * 3 * 5)] * 3, process.stdout + process.stderr
    assert "with the type 'NoneSuch', which no package here knows. Add default_scope to it." in lines[3]
