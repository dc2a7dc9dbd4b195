"""Losses: operations for each element, each target, or each state of a recursion."""

from __future__ import annotations

import torch
from torch.nn import functional

from opcount.cost import Cost
from tests.formulas.seen import arith, seen

X = torch.rand(4, 8)
N = X.numel()


def test_a_weighted_loss_counts_its_weights():
    target, weight = torch.tensor([1, 2, 3, 4]), torch.ones(8)
    assert arith(functional.nll_loss, X, target) == 4 * 2  # a negation and a sum
    assert arith(functional.nll_loss, X, target, weight) == 4 * 3
    assert arith(functional.nll_loss, X, target, weight, reduction="none") == 4 * 2
    plain = arith(functional.binary_cross_entropy, X, X)
    assert arith(functional.binary_cross_entropy, X, X, weight=X) == plain + N


def test_a_connectionist_loss_counts_a_state_for_each_step_label_and_blank():
    log_probs = torch.randn(5, 2, 3).log_softmax(2)
    targets, inputs, lengths = torch.tensor([[1, 2], [2, 1]]), torch.tensor([5, 5]), torch.tensor([2, 2])
    counted = seen(functional.ctc_loss, log_probs, targets, inputs, lengths, reduction="none")
    cost = next(cost for name, cost in counted.costs.items() if name.startswith("aten._ctc_loss."))
    states = 2 * 5 * (2 * 2 + 1)
    each = 2 + 3 + 3 + 2 + 1 + 2  # maximum, subtractions, exponentials, sums, logarithm, sums
    assert cost == Cost(arith=states * each)
