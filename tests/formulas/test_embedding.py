"""Embeddings: looking a row up is free, adding rows up is not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opcount.cost import Cost
from tests.formulas.seen import arith, seen


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_adds_up_the_rows_that_it_looks_up(mode):
    weight, indices, offsets = torch.randn(10, 6), torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 2])
    divided = 2 * 6 if mode == "mean" else 0
    assert arith(functional.embedding_bag, indices, weight, offsets, mode=mode) == 5 * 6 + divided


def test_a_weighted_bag_multiplies_them_first():
    weight, indices, offsets = torch.randn(10, 6), torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 2])
    weights = torch.ones(5)
    cost = arith(functional.embedding_bag, indices, weight, offsets, mode="sum", per_sample_weights=weights)
    assert cost == 5 * 6 * 2


def test_looking_rows_up_is_free_and_adding_their_gradients_is_not():
    weight = torch.randn(10, 6, requires_grad=True)
    out = functional.embedding(torch.tensor([1, 1, 2]), weight)
    assert seen(functional.embedding, torch.tensor([1, 1, 2]), weight).total == Cost()
    assert seen(out.backward, torch.ones_like(out)).costs["aten.embedding_dense_backward.default"].arith == 3 * 6
