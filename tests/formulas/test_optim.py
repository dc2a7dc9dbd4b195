"""Fused optimizers count what the same step counts operator by operator."""

from __future__ import annotations

import pytest
import torch

from tests.features import needs
from tests.formulas.seen import seen

CASES = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"weight_decay": 0.1}),
    (torch.optim.Adam, {"maximize": True}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.AdamW, {}),
    pytest.param(torch.optim.AdamW, {"weight_decay": 0}, marks=needs("an AdamW that scales nothing without decay")),
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"weight_decay": 0.1, "maximize": True}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.1}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adagrad, {"weight_decay": 0.1}),
]
ELEMENTS = 1000


def second_step(kind, options, **how):
    """Return the arithmetic of a second step, so that momentum exists."""
    parameters = [torch.ones(ELEMENTS, requires_grad=True)]
    parameters[0].grad = torch.ones(ELEMENTS)
    optimizer = kind(parameters, lr=0.1, **options, **how)
    optimizer.step()
    return seen(optimizer.step).total.arith


@needs("fused steps of optimizers on a CPU")
@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_a_fused_step_counts_what_a_loop_over_the_parameters_does(kind, options):
    single = second_step(kind, options, foreach=False, fused=False)
    assert second_step(kind, options, fused=True) // ELEMENTS == single // ELEMENTS


@pytest.mark.parametrize(("kind", "options"), CASES[:3], ids=str)
def test_a_step_over_lists_counts_what_a_loop_over_the_parameters_does(kind, options):
    single = second_step(kind, options, foreach=False, fused=False)
    assert second_step(kind, options, foreach=True, fused=False) // ELEMENTS == pytest.approx(single // ELEMENTS, abs=1)


@needs("fused steps of optimizers on a CPU")
def test_the_first_step_of_momentum_copies_the_gradient():
    parameter = torch.ones(ELEMENTS, requires_grad=True)
    parameter.grad = torch.ones(ELEMENTS)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, fused=True)
    assert seen(optimizer.step).costs["aten._fused_sgd_.default"].arith == 2 * ELEMENTS  # p -= lr * g
