"""Types of the public names, as their users' type checkers see them: mypy checks this file, and pytest runs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from typing_extensions import assert_type

import opcount
from opcount import (
    Budget,
    BudgetExceededError,
    Convention,
    Cost,
    OpCounter,
    Profile,
    flop_budget,
    formula,
    get_model_complexity_info,
)
from opcount.coverage import Coverage
from opcount.diff import Diff
from opcount.profile import Total


def counted() -> OpCounter:
    model = nn.Linear(3, 4)
    with OpCounter(model) as c:
        assert_type(c, OpCounter)
        model(torch.ones(2, 3))
    return c


def test_a_counter() -> None:
    c = counted()
    assert_type(c.flops, int)
    assert_type(c.macs, int)
    assert_type(c.arith, int)
    assert_type(c.activations, int)
    assert_type(c.params, int)
    assert_type(c.by_module(), dict[str, Total])
    assert_type(c.by_operator(), dict[str, Total])
    assert_type(c.by_phase(), dict[str, Total])
    assert_type(c.by_dtype(), dict[str, Total])
    assert_type(c.by_module_and_operator(), dict[str, dict[str, Total]])
    assert_type(c.by_module()[""].macs, int)
    assert_type(c.coverage, Coverage)
    assert_type(c.coverage.verdict(), str)
    assert_type(c.profile, Profile)
    assert_type(c.total, Total)
    assert_type(c.by_family(), dict[str, Total])
    assert_type(c.explain(), str)
    assert_type(c.diff(c.profile), Diff)
    assert_type(c.to_json(), str)
    assert_type(c.with_convention("full"), Profile)
    assert c.macs == 2 * 3 * 4


def test_every_option_of_a_counter() -> None:
    c = OpCounter(nn.Linear(3, 4), convention="full", strict=True, dry_run=True, formulas={"mylib::f": None})
    assert_type(c, OpCounter)
    sampled = OpCounter(every=100)
    with sampled, sampled.phase("prefill"):
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert_type(sampled.extrapolated(), Profile)
    assert sampled.macs == 2 * 3 * 4


def test_a_profile() -> None:
    profile = counted().profile
    assert_type(profile + profile, Profile)
    assert_type(profile.by_family(), dict[str, Total])
    assert_type(profile.with_convention("torch").flops, int)
    assert_type(profile.select(lambda record: record.phase == "forward"), Profile)
    assert_type(profile.diff(profile), Diff)
    assert_type(profile + profile, Profile)
    assert_type(sum([profile], Profile()), Profile)
    assert_type(profile.explain(), str)
    assert_type(profile.to_json(), str)
    assert_type(profile.to_rows(), list[dict[str, Any]])
    assert_type(profile.convention, Convention)
    assert_type(Profile.from_json(profile.to_json()), Profile)
    assert Profile.from_json(profile.to_json()) == profile


def test_one_call() -> None:
    model = nn.Linear(3, 4)
    assert_type(opcount.count(model, torch.ones(2, 3)), Profile)
    assert_type(opcount.count(model, input=torch.ones(2, 3), train=True, dry_run=None), Profile)
    assert_type(opcount.summary(model, (2, 3), verbose=False), Profile)
    named = opcount.summary(model, {"input": (2, 3)}, dtypes=[torch.float32], col_names=["params"], verbose=0)
    assert named.macs == 2 * 3 * 4


def test_a_budget_leaves_the_type_of_what_it_decorates() -> None:
    @flop_budget("24 MAC", model=None)
    def run(rows: int, scale: float = 1.0) -> torch.Tensor:
        return torch.ones(rows, 3) @ torch.ones(3, 4) * scale

    assert_type(run(2), torch.Tensor)
    with flop_budget("1 kMAC", max_flops=1000, modules={"": "1 kMAC"}, phase="forward", rtol=0.1) as c:
        assert_type(c, OpCounter)
        run(2)
    with pytest.raises(BudgetExceededError) as caught:
        run(3, scale=2.0)  # 3 x 3 x 4 = 36
    assert_type(caught.value.evidence, str)
    assert_type(Budget.of("24 MAC"), Budget)


def test_the_call_of_mmengine() -> None:
    info = get_model_complexity_info(nn.Linear(3, 4), (3,), show_table=False, show_arch=False, dry_run=True)
    assert_type(info, dict[str, Any])
    assert info["flops"] == 3 * 4


def test_a_formula_stays_the_function_that_it_was() -> None:
    @formula("opcount_typing::f")
    def price(out: torch.Tensor, x: torch.Tensor, factor: float) -> Cost:
        return Cost(macs=0, arith=out.numel())

    cost = price(torch.ones(2), torch.ones(2), 1.0)
    assert_type(cost, Cost)
    assert_type(cost + cost, Cost)
    assert_type(opcount.__version__, str)
    assert cost.arith == 2
