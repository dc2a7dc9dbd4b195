"""Reductions, sorting, searching and writing through an index: a comparison or an addition is one operation."""

from __future__ import annotations

from math import log2

import pytest
import torch

from tests.formulas.seen import arith, cost_of, seen

aten = torch.ops.aten
X = torch.rand(4, 8)
N = X.numel()


def test_sorting_takes_a_comparison_for_each_bit_of_the_length():
    assert arith(torch.sort, X) == N * log2(8)
    assert arith(torch.sort, X, 0) == N * log2(4)
    assert arith(torch.sort, X, dim=0, stable=True) == N * log2(4)
    assert arith(torch.topk, X, 2) == N  # selecting looks at each once


def test_searching_halves_what_is_left():
    assert arith(torch.searchsorted, torch.arange(7.0), X) == N * log2(7 + 1)
    assert arith(torch.bucketize, X, torch.arange(7.0)) == N * log2(7 + 1)
    assert arith(torch.isin, X, torch.arange(7.0)) == N * log2(7 + 1)
    assert arith(torch.isin, X, 2.0) == arith(torch.eq, X, 2.0) == N


@pytest.mark.parametrize("accumulate", [True, False])
def test_writing_through_an_index_is_free_until_it_adds(accumulate):
    where, values = (torch.tensor([0, 1, 1]),), torch.ones(3, 8)
    counted = seen(aten.index_put, X, where, values, accumulate)
    assert counted.total.arith == (3 * 8 if accumulate else 0)
    assert counted.families == {"aten.index_put.default": "reduction" if accumulate else "free"}


def test_what_is_added_through_an_index_counts_by_source():
    index, source = torch.tensor([0, 2, 2]), torch.ones(3, 8)
    assert arith(torch.index_add, X, 0, index, source) == 3 * 8
    assert arith(torch.index_add, X, 0, index, source, alpha=2) == 2 * 3 * 8
    spread = index[:, None].expand(3, 8)
    assert arith(torch.scatter_add, X, 0, spread, source) == 3 * 8
    assert arith(torch.scatter_reduce, X, 0, spread, source, "amax") == 3 * 8
    assert arith(torch.scatter, X, 0, spread, source) == 0
    assert arith(torch.scatter, X, 0, spread, 1.0, reduce="add") == 3 * 8


def test_a_distance_between_all_pairs_counts_each_difference_and_its_norm():
    pairs = [(i, j) for i in range(4) for j in range(i)]
    assert arith(torch.pdist, X) == sum(arith(lambda i=i, j=j: torch.norm(X[i] - X[j])) for i, j in pairs)


def test_a_norm_of_weights_is_a_reduction_and_a_product():
    v, g = torch.randn(4, 8), torch.randn(4, 1)
    assert cost_of(aten._weight_norm_interface.default, v, g, 0).arith == 2 * N
