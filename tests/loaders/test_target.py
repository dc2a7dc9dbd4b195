from __future__ import annotations

import pytest

from opcount.errors import LoadError
from opcount.loaders import hub, load, openmmlab
from opcount.loaders.target import is_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_base_ = ['../base.py']", True),
        ("_base_: list = []", True),
        ("model = dict(type='ResNet')", True),
        ("model = {'type': 'ResNet'}", True),
        ("with read_base():\n    from .base import *", True),
        ("from mmengine import config\nwith config.read_base():\n    pass", True),
        ("model = build()", False),
        ("def f():\n    model = dict(type='ResNet')", False),
        ("settings = dict(type='ResNet')", False),
        ("with open('x') as f:\n    pass", False),
        ("def f(:", False),
        ("", False),
    ],
)
def test_a_config_inherits_or_assigns_a_dict_to_model(tmp_path, text, expected):
    (tmp_path / "some.py").write_text(text)
    assert is_config(tmp_path / "some.py") is expected


@pytest.mark.parametrize(("name", "kind"), [("weights.pth", "file of another kind"), ("folder", "folder")])
def test_what_is_neither_python_nor_a_config_is_refused(tmp_path, name, kind):
    (tmp_path / "weights.pth").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(LoadError, match=f"which is a {kind}. Name a .py file"):
        load(str(tmp_path / name))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Install an mmpretrain and an mmdet that hold a few configs, and nothing else."""
    files = {
        "mmpretrain": [
            "resnet/resnet18_8xb32.py",
            "_base_/models/resnet18.py",
            "mae/vit_8xb32.py",
            "beit/vit_8xb32.py",
        ],
        "mmdet": ["retinanet/retinanet_1x.py", "resnet/resnet18_8xb32.py"],
    }
    for package, names in files.items():
        home = tmp_path / package
        for name in names:
            (home / ".mim/configs" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / ".mim/configs" / name).touch()
        (home / "__init__.py").write_text("raise AssertionError('configs are found without an import')")
    index = tmp_path / "mmpretrain/.mim"
    (index / "model-index.yml").write_text("Import: [configs/mae/metafile.yml]")
    (index / "configs/mae/metafile.yml").write_text(
        "Models: [{Name: vit_mae, Config: configs/mae/vit_8xb32.py}, {Name: x}]"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(hub, "PACKAGES", tuple(files))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("retinanet_1x", "mmdet/.mim/configs/retinanet/retinanet_1x.py"),
        ("retinanet_1x.py", "mmdet/.mim/configs/retinanet/retinanet_1x.py"),
        ("mmdet::resnet18_8xb32", "mmdet/.mim/configs/resnet/resnet18_8xb32.py"),
        ("mmpretrain::resnet/resnet18_8xb32", "mmpretrain/.mim/configs/resnet/resnet18_8xb32.py"),
        ("mae/vit_8xb32", "mmpretrain/.mim/configs/mae/vit_8xb32.py"),
        ("vit_mae", "mmpretrain/.mim/configs/mae/vit_8xb32.py"),  # listed in the model index
    ],
)
def test_a_config_is_found_by_name(packages, name, file):
    assert hub.find_config(name) == packages / file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18_8xb32", "names 2. Pass one of mmpretrain::resnet/resnet18_8xb32, mmdet::resnet/resnet18_8xb32."),
        ("vit_8xb32", "names 2. Pass one of mmpretrain::beit/vit_8xb32, mmpretrain::mae/vit_8xb32."),
        ("retinanet_2x", "got 'retinanet_2x', which does not exist. Did you mean retinanet_1x?"),
        ("configs/retinanet/retinanet_2x.py", "which does not exist. Did you mean retinanet_1x?"),
        ("vit_maa", "Did you mean vit_mae?"),
        ("zzz", "which does not exist. Check the path, or the spelling of the name."),
        ("resnet18", "which does not exist."),  # a base config is no model
    ],
)
def test_a_name_of_no_or_several_configs_is_refused(packages, name, message):
    with pytest.raises(LoadError) as error:
        hub.find_config(name)
    assert message in str(error.value)


def test_without_the_packages_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(hub, "find_spec", lambda _name: None)
    with pytest.raises(LoadError) as error:
        load("resnet50_8xb32_in1k")
    assert str(error.value) == (
        "load: 'resnet50_8xb32_in1k' is no file, and looking it up as a model name needs mmpretrain, mmdet or mmyolo, "
        "which is not installed. Run: pip install 'opcount[openmmlab]'"
    )


def test_a_config_file_without_mmengine_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("opcount.loaders.openmmlab_settings.find_spec", lambda _name: None)
    (tmp_path / "some.py").write_text("model = dict(type='ResNet')")
    with pytest.raises(
        LoadError, match=r"needs mmengine, which is not installed\. Run: pip install 'opcount\[openmmlab\]'"
    ):
        load(str(tmp_path / "some.py"))


@pytest.mark.parametrize(
    ("message", "advises"),
    [
        ("No module named 'mmcv._ext'", True),
        ("MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.", True),
        ("invalid depth 35 for resnet", False),
    ],
)
def test_an_unfit_mmcv_is_told_from_other_errors(message, advises):
    assert ("need an mmcv with its operators" in openmmlab._advice(ImportError(message))) is advises
