"""Tills: what is charged for a call, and when."""

from __future__ import annotations

import pytest
import torch

from opcount import Cost, OpCounter
from opcount.coverage import FREE, UNCOUNTED
from opcount.interceptor.plan import Plan
from opcount.interceptor.till import NotingTill, Till, UnguardedTill
from opcount.scope import Frame
from opcount.scope.frame import Sink

X = torch.ones(2, 3)
SMALL = Plan("lib.small.default", "lib", lambda out, *_: Cost(arith=out.numel()))
LARGE = Plan("lib.large.default", "lib", lambda out, *_, scale=1: Cost(macs=scale * out.numel()))
EITHER = Plan("lib.either.default", "lib", when=lambda out, *_, **__: len(out) > 2, special=LARGE, otherwise=SMALL)


def failing(_out: object, *_args: object) -> Cost:
    raise ValueError("refused")


def charged(till, frame, plan, out, **kwargs):
    """Charge a call, and return what stands in the only row of a frame."""
    till.charge(plan, out, (X,), kwargs or None, frame, "forward")
    ((found, _, _), row), *others = frame.rows.items()
    assert not others
    return found, (row.calls, row.macs, row.arith)


@pytest.mark.parametrize("kwargs", [{}, {"scale": 5}], ids=["by position", "by name"])
@pytest.mark.parametrize("out", [X, torch.ones(4)], ids=["two rows", "four rows"])
@pytest.mark.parametrize("plan", [SMALL, LARGE, EITHER, Plan("lib.nothing.default", FREE)], ids=lambda p: p.operator)
def test_a_till_prices_as_the_plan_says(plan, out, kwargs):
    if plan is SMALL or (plan is EITHER and out is X):
        kwargs = {}
    chosen, cost = plan.priced(out, (X,), kwargs)
    found, sums = charged(Till(), Frame(""), plan, out, **kwargs)
    assert found is chosen
    assert sums == (1, *(cost or Cost())[:2])


def test_a_formula_of_ours_that_fails_names_the_operator():
    plan = Plan("lib.fails.default", "lib", failing)
    chosen, cost = plan.priced(X, (X,), {})
    found, sums = charged(Till(), Frame(""), plan, X)
    assert found is chosen
    assert (chosen.operator, chosen.family, cost, sums) == ("lib.fails.default", UNCOUNTED, None, (1, 0, 0))


def test_a_formula_of_the_users_that_fails_is_an_error():
    plan = Plan("lib.fails.default", "lib", failing, from_user=True)
    with pytest.raises(ValueError, match="refused"):
        plan.priced(X, (X,), {})
    with pytest.raises(ValueError, match="refused"):
        Till().charge(plan, X, (X,), None, Frame(""), "forward")


@pytest.mark.parametrize("pays", [False, True])
@pytest.mark.parametrize("kind", [Till, lambda: UnguardedTill(Till()), lambda: NotingTill(Till())])
def test_what_is_deferred_is_charged_when_it_is_paid(kind, pays):
    till, frame = kind(), Frame("")
    deferral = till.deferred()
    nested = deferral.deferred()
    deferral.charge(LARGE, X, (X,), None, frame, "forward")
    nested.charge(LARGE, X, (X,), None, frame, "forward")
    nested.pay()
    assert not frame.rows
    if pays:
        deferral.pay()
    assert [row.macs for row in frame.rows.values()] == ([2 * 6] if pays else [])
    assert getattr(till, "priced", pays) is pays


def test_what_is_paid_inside_of_a_module_that_is_priced_as_a_whole_is_lost():
    till, sink = Till(), Sink()
    deferral = till.deferred()
    deferral.charge(LARGE, X, (X,), None, sink, "forward")
    deferral.pay()
    assert not sink.rows


def test_a_till_that_notes_overlooks_free_operators():
    till = NotingTill(Till())
    till.charge(Plan("lib.view.default", FREE), X, (X,), None, Frame(""), "forward")
    assert not till.priced
    till.charge(SMALL, X, (X,), None, Frame(""), "forward")
    assert till.priced


def test_gradients_that_nobody_asked_for_count_no_bytes_whatever_the_kernel_returns():
    conv = torch.nn.Conv3d(1, 2, 3, padding=1)
    conv.weight.requires_grad_(False)
    x = torch.ones(3, 1, 1, 3, 6, requires_grad=True)  # of a batch oneDNN computes all gradients
    written = []
    for dry in (False, True):
        with OpCounter(conv, dry_run=dry) as c:
            conv(x).sum().backward()
        written.append([r.bytes for r in c.profile.records if r.operator == "aten.convolution_backward.default"])
    assert written == [[4 * 3 * 18 + 4 * 2], [4 * 3 * 18 + 4 * 2]]  # of the input and of the bias
