"""Formulas of one's own: what they may be registered for, and what happens when they are wrong."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from opcount import Cost, OpCounter, formula
from opcount.errors import FormulaError
from opcount.profile import Profile
from opcount.registry import BUILTIN, USER, Formula, Registry, builtin
from tests.features import custom_op

W = torch.ones(4, 4)


@custom_op("registry::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


OVERLOAD = torch.ops.registry.twice.default
PACKET = torch.ops.registry.twice


@pytest.fixture(autouse=True)
def forget():
    before = dict(USER.targets())
    yield
    USER._formulas.clear()
    USER._formulas.update(before)


def seven(out, /, *args, **kwargs):
    """Seven."""
    return Cost(macs=7)


@pytest.mark.parametrize("target", [OVERLOAD, PACKET, "registry.twice", "registry::twice", "registry.twice.default"])
def test_an_operator_is_priced_by_overload_packet_or_name(target):
    formula(target)(seven)
    with OpCounter(strict=True) as counter:
        twice(W)
    assert counter.macs == 7
    with OpCounter(formulas={target: lambda out, x: Cost(macs=9)}) as counter:
        twice(W)
    assert counter.macs == 9


def test_none_declares_an_operator_free():
    with OpCounter(formulas={PACKET: None, "aten.mm": None}, strict=True) as counter:
        twice(W @ W)
    assert (counter.macs, counter.arith) == (0, 0)
    assert set(counter.coverage.free) == {"registry.twice.default", "aten.mm.default"}


@pytest.mark.parametrize("target", [3, torch.relu, nn.Module, nn.Linear(1, 1), "mm", "not a name.x", twice, None])
def test_a_target_that_is_no_operator_is_refused(target):
    with pytest.raises(FormulaError, match=r"^formula: expected an operator"):
        formula(target)(seven)
    with pytest.raises(FormulaError, match=r"^formula: expected an operator"):
        OpCounter(formulas={target: seven})


def test_a_formula_needs_a_target_and_a_function():
    with pytest.raises(FormulaError, match="at least one target"):
        formula()
    with pytest.raises(FormulaError, match="expected a function"):
        formula(PACKET)(3)
    with pytest.raises(FormulaError, match="expected a formula"):
        OpCounter(formulas={PACKET: 3})


def test_a_second_formula_for_an_operator_is_refused_and_the_first_stays():
    formula(PACKET)(seven)
    with pytest.raises(FormulaError, match=r"registry\.twice has a formula already, tests\.test_registry\.seven"):
        formula(PACKET)(lambda out, x: Cost())
    with pytest.raises(FormulaError, match=r"aten\.mm has a formula already, opcount\.formulas"):
        formula("aten.mm")(seven)
    with OpCounter() as counter:
        twice(W)
    assert counter.macs == 7


def test_the_same_function_may_be_registered_again_as_a_notebook_does():
    def make(macs):
        def price(out, x):
            return Cost(macs=macs)

        return price

    formula(PACKET)(make(1))
    formula(PACKET)(make(2))
    with OpCounter() as counter:
        twice(W)
    assert counter.macs == 2


@pytest.mark.parametrize("value", [5, None, (1, 2), (1, 2, 3), "abc", 1.5])
def test_a_formula_that_returns_no_cost_is_an_error_that_names_the_operator(value):
    shown = re.escape(f"got {value!r} of type {type(value).__name__}")
    with OpCounter(formulas={PACKET: lambda out, x: value}) as counter:
        with pytest.raises(FormulaError, match=rf"registry\.twice\.default: expected .* {shown}"):
            twice(W)
        W @ W
    assert counter.macs == 64
    assert set(counter.by_operator()) == {"aten.mm.default"}


@pytest.mark.parametrize("value", [1.5, -1, torch.tensor(2.5), "3", None])
def test_a_cost_that_is_no_whole_number_is_an_error_that_names_the_operator(value):
    wrong = pytest.raises(FormulaError, match=r"registry\.twice\.default: .* whole numbers from 0 on, got Cost\(macs=")
    with OpCounter(formulas={PACKET: lambda out, x: Cost(macs=value)}) as c, wrong:
        twice(W)
    assert (c.macs, c.profile.records) == (0, ())


@pytest.mark.parametrize("value", [np.int64(5), np.prod((1, 5)), torch.tensor(5), True + 4])
def test_integers_of_other_libraries_are_counted_as_plain_ones(value):
    with OpCounter(formulas={PACKET: lambda out, x: Cost(macs=value)}) as c:
        twice(W)
    assert type(c.macs) is int
    assert c.macs == 5
    assert Profile.from_json(c.profile.to_json()).macs == 5


def test_a_formula_that_fails_is_an_error_that_names_the_operator_and_keeps_the_cause():
    def fails(out, x):
        raise KeyError("inside")

    failed = pytest.raises(FormulaError, match=r"registry\.twice\.default: .* failed with KeyError")
    with OpCounter(formulas={PACKET: fails}), failed as caught:
        twice(W)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(FormulaError, match="failed with TypeError"), OpCounter(formulas={PACKET: lambda out: Cost()}):
        twice(W)


def test_a_formula_of_opcount_that_fails_names_the_operator_as_uncounted(monkeypatch):
    registry = Registry(BUILTIN)
    monkeypatch.setattr("opcount.counter.registry_with", lambda _: registry)

    def fails(out, x, y):
        raise ZeroDivisionError

    fails.__module__ = "opcount.formulas.matmul"
    registry.add("aten.mm", Formula(fails, "matmul"), replace=True)
    with pytest.warns(match=r"aten\.mm\.default \(2 calls\)"), OpCounter() as counter:
        W @ W @ W
    assert counter.macs == 0


def test_a_callable_object_and_a_partial_function_are_formulas():
    class Constant:
        """Always the same."""

        def __call__(self, out, x):
            return Cost(macs=3)

    for price in (Constant(), partial(seven)):
        with OpCounter(formulas={PACKET: price}) as counter:
            twice(W)
        assert counter.macs in {3, 7}


def test_a_file_called_free_does_not_make_its_formulas_free():
    def price(out, x):
        return Cost(macs=3)

    price.__module__ = "mylib.free"
    with OpCounter(formulas={PACKET: price}) as counter:
        twice(W)
    assert set(counter.by_operator()) == {"registry.twice.default"}


class Box(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x).relu()


class Crate(nn.Module):
    def __init__(self):
        super().__init__()
        self.box = Box()

    def forward(self, x):
        return self.box(x)


def test_a_black_box_module_is_priced_as_a_whole_and_its_backward_measured():
    model = nn.Sequential(Box(), nn.Linear(4, 2))
    with OpCounter(model, formulas={Box: lambda out, x: Cost(macs=1000)}) as counter:
        model(torch.ones(3, 4)).sum().backward()
    # a box, then 3 x 4 x 2; backward: the box's weight; the layer's weight and input
    assert {p: t.macs for p, t in counter.by_phase().items()} == {"forward": 1000 + 24, "backward": 48 + 2 * 24}
    assert counter.by_module()["0"].macs == 1000 + 48


def test_a_black_box_inside_another_costs_nothing_more():
    boxes = {Box: lambda out, x: Cost(macs=10), Crate: lambda out, x: Cost(macs=100)}
    with OpCounter(formulas=boxes) as counter:
        Crate()(torch.ones(3, 4))
    assert counter.macs == 100


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_black_box_that_is_recomputed_is_priced_again(reentrant):
    box = Box()
    x = torch.ones(3, 4, requires_grad=True)
    to_the_end = torch.utils.checkpoint.set_checkpoint_early_stop(enable=False)  # where there is an output to price
    with OpCounter(box, formulas={Box: lambda out, x: Cost(macs=10)}) as counter, to_the_end:
        torch.utils.checkpoint.checkpoint(box, x, use_reentrant=reentrant).sum().backward()
    macs = {phase: total.macs for phase, total in counter.by_phase().items()}
    # backward: the gradients of the weight and of the input
    assert macs == {"forward": 10, "recompute": 10, "backward": 2 * 48}


def test_opcounts_own_formulas_are_found_by_overload_before_packet():
    @builtin("registry.of_two")
    def packet(out, x):
        return Cost(macs=1)

    try:
        BUILTIN.add("registry.of_two.default", Formula(seven, "x"))
        assert BUILTIN.find(["registry.of_two.default", "registry.of_two"])[0].price is seven
    finally:
        BUILTIN._formulas.pop("registry.of_two", None)
        BUILTIN._formulas.pop("registry.of_two.default", None)
