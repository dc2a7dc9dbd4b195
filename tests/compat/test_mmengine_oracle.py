"""Texts and numbers against mmengine itself, which traces the model, twice."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from opcount.compat import mmengine as ours
from tests.compat.trees import LEAVES, SHAPE, Branch, Product, models, without_absent

analysis = pytest.importorskip("mmengine.analysis")
print_helper = pytest.importorskip("mmengine.analysis.print_helper")
theirs_parameters = pytest.importorskip("mmengine.analysis.complexity_analysis")


def ask_mmengine(function, *args, **kwargs):
    """Call mmengine with a terminal as wide as any table, and without what it and its tracer warn of."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), mock.patch.dict(os.environ, COLUMNS="10000"):
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    finally:
        logging.disable(logging.NOTSET)


def mmengine_info(model, inputs=None):
    """Return what mmengine says of a model, whose children that are None it cannot print."""
    twin = copy.deepcopy(model)
    without_absent(twin)
    return ask_mmengine(
        analysis.get_model_complexity_info, twin, inputs=torch.ones(SHAPE) if inputs is None else inputs
    )


def without_none_lines(text):
    return "\n".join(line for line in text.split("\n") if not line.endswith("): None"))


def assert_same(model, inputs=None):
    info = ours.get_model_complexity_info(model, inputs=torch.ones(SHAPE) if inputs is None else inputs)
    expected = mmengine_info(model, inputs)
    assert info["out_table"] == expected["out_table"]
    if not any(child is None for module in model.modules() for child in module._modules.values()):
        assert info["out_arch"] == expected["out_arch"]
    assert {**info, "out_arch": ""} == {**expected, "out_arch": ""}


@settings(max_examples=150)
@given(models())
def test_every_number_and_every_text_is_mmengines_to_the_byte(model):
    assert_same(model)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("leaf", LEAVES)
def test_a_model_of_one_module_collapses_as_mmengines_does(leaf, train):
    assert_same(LEAVES[leaf]().train(train))
    assert_same(nn.Sequential(nn.Sequential(LEAVES[leaf]())).train(train))


@settings(max_examples=40)
@given(models())
def test_analyzers_and_their_tables_are_mmengines(model):
    without_absent(model)
    x = torch.ones(SHAPE)
    flops, acts = ours.FlopAnalyzer(model, x), ours.ActivationAnalyzer(model, (x,))
    twin = copy.deepcopy(model)
    their_flops, their_acts = analysis.FlopAnalyzer(twin, x), analysis.ActivationAnalyzer(twin, (x,))
    for mine, their in ((flops, their_flops), (acts, their_acts)):
        mine.uncalled_modules_warnings(enabled=False)
        assert mine.by_module() == ask_mmengine(their.by_module)
        assert list(mine.by_module()) == list(their.by_module())
        assert mine.uncalled_modules() == their.uncalled_modules()
        assert mine.total() == their.total()
    for options in ({}, {"max_depth": 1}, {"max_depth": 5, "show_param_shapes": False}):
        assert ours.complexity_stats_table(flops, **options) == ask_mmengine(
            print_helper.complexity_stats_table, their_flops, **options
        )
    assert ours.complexity_stats_str(flops) == ask_mmengine(print_helper.complexity_stats_str, their_flops)


@settings(max_examples=40)
@given(models())
def test_callers_are_counted_as_mmengine_counts_them(model):
    without_absent(model)
    x = torch.ones(SHAPE)
    mine = ours.FlopAnalyzer(model, x).ancestor_mode("caller").uncalled_modules_warnings(enabled=False)
    their = analysis.FlopAnalyzer(copy.deepcopy(model), x).ancestor_mode("caller")
    assert mine.by_module() == ask_mmengine(their.by_module)


@settings(max_examples=40)
@given(models())
def test_parameters_are_counted_and_printed_as_mmengine_does(model):
    assert ours.parameter_count(model) == theirs_parameters.parameter_count(model)
    if next(model.parameters(), None) is not None:  # mmengine's table of a model without parameters is a KeyError
        for depth in (1, 3, 5):
            expected = ask_mmengine(theirs_parameters.parameter_count_table, model, depth)
            assert ours.parameter_count_table(model, depth) == expected


@pytest.mark.parametrize("name", sorted(set(LEAVES) - {"wrapped"}))
def test_operators_go_by_mmengines_words(name):
    model, x = LEAVES[name](), torch.ones(SHAPE)
    for mine, theirs in (
        (ours.FlopAnalyzer, analysis.FlopAnalyzer),
        (ours.ActivationAnalyzer, analysis.ActivationAnalyzer),
    ):
        assert mine(model, x).uncalled_modules_warnings(enabled=False).by_operator() == ask_mmengine(
            theirs(model, x).by_operator
        )


def test_dropout_in_eval_was_called_though_no_operator_runs_and_identity_was_not():
    model = Branch({"drop": nn.Dropout(), "same": nn.Identity(), "conv": nn.Conv2d(4, 4, 1)}, ["drop", "same", "conv"])
    assert_same(model.eval())
    arch = ours.get_model_complexity_info(model, inputs=torch.ones(SHAPE))["out_arch"]
    assert "(drop): Dropout(p=0.5, inplace=False)\n" in arch
    assert "(same): Identity(#params: 0, #flops: N/A, #acts: N/A)\n" in arch


def test_a_child_that_is_none_is_printed_where_mmengine_fails():
    model = Branch({"conv": nn.Conv2d(4, 4, 1), "downsample": None}, ["conv"])
    info = ours.get_model_complexity_info(model, inputs=torch.ones(SHAPE))
    with pytest.raises(AttributeError, match="NoneType"):
        ask_mmengine(analysis.get_model_complexity_info, model, inputs=torch.ones(SHAPE))
    assert info["out_arch"].endswith("\n  (downsample): None\n)")
    assert "\n  (downsample): None\n" in repr(model)
    twin = copy.deepcopy(model)
    without_absent(twin)
    assert without_none_lines(info["out_arch"]) == mmengine_info(twin)["out_arch"]


def test_work_whose_result_nobody_uses_is_counted_where_mmengine_drops_it_from_its_graph():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            self.unused(x)
            return self.used(x)

    one_layer = 2 * 4 * 6 * 6 * 6
    assert ours.get_model_complexity_info(Dead(), inputs=torch.ones(SHAPE))["flops"] == 2 * one_layer
    assert mmengine_info(Dead())["flops"] == one_layer


def test_a_model_without_parameters_is_given_a_shape_where_mmengine_looks_for_a_device_in_vain():
    info = ours.get_model_complexity_info(Product(), SHAPE[1:])
    expected = mmengine_info(Product(), torch.ones(1, *SHAPE[1:]))
    assert info == expected
    assert info["flops"] == 4 * 6 * 6 * 6
    with pytest.raises(StopIteration):
        ask_mmengine(analysis.get_model_complexity_info, Product(), SHAPE[1:])


def test_neither_the_terminals_width_nor_markup_changes_the_table(monkeypatch):
    model = Branch({"[bold]a_long_name_of_a_convolution[/bold]": nn.Conv2d(4, 4, 1), ":smile:": nn.ReLU()}, [])
    monkeypatch.setenv("COLUMNS", "20")
    narrow = ours.get_model_complexity_info(model, inputs=torch.ones(SHAPE))["out_table"]
    monkeypatch.setenv("COLUMNS", "500")
    assert ours.get_model_complexity_info(model, inputs=torch.ones(SHAPE))["out_table"] == narrow
    assert "[bold]a_long_name_of_a_convolution[/bold]" in narrow


@pytest.mark.parametrize(
    "count", [0, 1, 100, 101, 1000, 10**5, 10**5 + 1, 10**8, 10**8 + 1, 10**11 + 1, 10**14 + 1, 1.5]
)
@pytest.mark.parametrize("digits", [2, 3])
def test_numbers_are_formatted_as_mmengine_does(count, digits):
    assert ours.openmmlab(count, digits) == print_helper._format_size(count, digits)
