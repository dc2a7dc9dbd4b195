"""Copies of a counter, alone or inside the model that holds it: they disturb nothing, and go on by themselves."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
import torch
from torch import nn

from opcount import Cost, OpCounter
from tests.conftest import traces

X = torch.ones(4, 2)
MACS = 4 * 2 * 3


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  (our own)


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickled, saved], ids=lambda way: way.__name__)


def layer():
    return nn.Linear(2, 3, bias=False)


@WAYS
def test_a_copy_made_inside_the_block_leaves_the_original_counting(way):
    model = layer()
    with OpCounter(model) as c:
        model(X)
        other = way(c)
        running = traces()
        del other
        gc.collect()
        assert traces() == running
        model(X)
    assert c.macs == 2 * MACS


@WAYS
def test_a_copy_has_counted_the_same_and_goes_on_by_itself(way):
    model = layer()
    with OpCounter(model) as c:
        model(X)
    other = way(c)
    assert (other.macs, other.params, other.by_module()[""].macs) == (MACS, 6, MACS)
    assert other.coverage == c.coverage
    assert str(other) == str(c)
    with other:
        other._model(X)
    assert (c.macs, other.macs, other.by_module()[""].macs, other.profile.modules[""].calls) == (
        MACS,
        2 * MACS,
        2 * MACS,
        2,
    )
    other.reset()
    assert (c.macs, other.macs) == (MACS, 0)


@WAYS
def test_a_copy_of_a_copy_and_of_a_counter_that_never_ran(way):
    model = layer()
    c = way(way(OpCounter(model)))
    assert str(c) == "OpCounter: nothing was counted yet"
    with c:
        c._model(X)
    assert way(way(c)).macs == MACS


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = layer()
        self.counter = OpCounter(self)

    def forward(self, x):
        with self.counter:
            return self.fc(x)


@WAYS
def test_a_model_that_holds_its_counter_can_be_copied(way):
    model = Counting()
    model(X)
    twin = way(model)
    assert twin.counter._model is (model if way is copy.copy else twin)
    twin(X)
    assert twin.counter.by_module()["fc"].macs == 2 * MACS
    if way is not copy.copy:  # which shares the attributes
        assert model.counter.macs == MACS
    assert torch.equal(twin.fc.weight, model.fc.weight)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_model_can_hold_its_counter(dry_run):
    model = layer()
    model.counter = OpCounter(model, dry_run=dry_run)
    for blocks in (1, 2):
        with model.counter:
            model(torch.ones(4, 2))
        assert model.counter.macs == blocks * MACS


@WAYS
def test_a_model_that_holds_a_running_counter_can_be_copied(way):
    model = layer()
    model.counter = OpCounter(model)
    with model.counter:
        model(X)
        twin = way(model)
        model(X)
    assert model.counter.macs == 2 * MACS
    assert twin(X).shape == (4, 3)


@WAYS
def test_settings_are_copied(way):
    model = layer()
    formulas = {"aten::mm": price, "aten::t": None}
    with OpCounter(model, convention="macs", strict=True, formulas=formulas) as c:
        model(X)
    other = way(c)
    with other:
        other._model(X)
    assert (c.macs, other.macs, other.profile.convention.name) == (7, 14, "macs")


def price(_out, *_args):
    return Cost(macs=7)


@WAYS
def test_the_steps_of_a_loop_are_copied(way):
    model = layer()
    c = OpCounter(model, every=2)
    for _ in range(5):
        with c:
            model(X)
    other = way(c)
    assert other.profile.steps == c.profile.steps
    assert other.extrapolated().macs == c.extrapolated().macs == 5 * MACS
    for _ in range(5):
        with other:
            other._model(X)
    assert (other.extrapolated().macs, c.extrapolated().macs) == (10 * MACS, 5 * MACS)


def test_the_copy_of_a_dry_counter_is_dry():
    model = layer()
    other = copy.deepcopy(OpCounter(model, dry_run=True))
    with other:
        other._model(torch.ones(4, 2))
    assert (other.macs, other.profile.provenance["run"]) == (MACS, "dry")
