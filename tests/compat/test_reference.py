"""Counts that mmengine published, module by module."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import nn

from opcount import get_model_complexity_info
from opcount.compat.mmengine import ActivationAnalyzer, FlopAnalyzer
from tests import shims
from tests.compat import reference
from tests.compat.zoo import ZOO, Classifier, TestNet

shims.define_torchvision_operators()

MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@lru_cache(maxsize=1)
def build(name: str) -> nn.Module:
    """Return the model in its published mode; the last one is kept, for the next mode's test."""
    return ZOO[name]().train(reference.published(name).mode == "train")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ZOO)
def test_flops_and_activations_of_every_module_are_the_published_ones(name, mode):
    row = reference.published(name)
    model = build(name)
    inputs = tuple(torch.ones(shape) for shape in row.inputs)
    with MODES[mode]():
        acts = ActivationAnalyzer(model, inputs).uncalled_modules_warnings(enabled=False)
        flops = FlopAnalyzer(model, inputs).uncalled_modules_warnings(enabled=False).analyze(acts)
        assert set(flops.by_module()) == set(row.flops)
        reference.assert_published(name, flops.by_module(), acts.by_module())
    assert flops.by_operator() == row.flops_by_operator
    assert acts.by_operator() == row.acts_by_operator


def test_every_published_model_is_built_here_or_by_openmmlab():
    assert {name for name in reference.names() if not name.startswith(("mmpretrain/", "mmyolo/"))} == set(ZOO)


def test_the_table_of_a_resnet_50_in_mmpretrains_layout_is_the_published_one_to_the_byte():
    info = get_model_complexity_info(Classifier().eval(), (3, 224, 224), show_arch=False)
    published = (reference.REFERENCE / "seeds" / "resnet50_mmpretrain.table.txt").read_text()
    assert info["out_table"].strip("\n") == published.strip("\n")
    assert (info["flops_str"], info["params_str"], info["activations_str"]) == ("4.109G", "25.557M", "11.114M")


def test_the_table_of_four_linear_layers_is_the_published_one():
    info = get_model_complexity_info(TestNet(), (1, 10))
    assert reference.cells(info["out_table"]) == reference.seed("testnet_mmengine")
    assert (info["flops"], info["params"], info["activations"]) == (400, 440, 40)
