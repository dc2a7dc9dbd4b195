"""Elementwise operators, reductions, losses and embeddings: what a fused operator stands for, step by step."""

from __future__ import annotations

from math import log2

import pytest
import torch
from torch.nn import functional

from opcount.cost import Cost
from tests.formulas.seen import cost_of, seen

aten = torch.ops.aten
X = torch.rand(4, 8)
N = X.numel()


def arith(function, *args, **kwargs):
    return seen(function, *args, **kwargs).total.arith


def softmax(x):
    shifted = torch.exp(x - x.amax(1, keepdim=True))
    total = shifted.sum(1, keepdim=True)
    return shifted / total


@pytest.mark.parametrize(
    ("fused", "steps"),
    [
        (lambda x: torch.add(x, x, alpha=2), lambda x: x + 2 * x),
        (lambda x: torch.sub(x, x, alpha=2), lambda x: x - 2 * x),
        (lambda x: torch.add(x, x), lambda x: x + x),
        (lambda x: torch.addcmul(x, x, x), lambda x: x + x * x),
        (lambda x: torch.addcmul(x, x, x, value=3), lambda x: x + 3 * x * x),
        (lambda x: torch.addcdiv(x, x, x, value=3), lambda x: x + 3 * x / x),
        (lambda x: torch.lerp(x, x, 0.5), lambda x: x + 0.5 * (x - x)),
        (lambda x: aten.sigmoid_backward(x, x), lambda x: x * x * (1 - x)),
        (lambda x: aten.tanh_backward(x, x), lambda x: x * (1 - x * x)),
        (lambda x: torch.polar(x, x), lambda x: torch.complex(x * torch.cos(x), x * torch.sin(x))),
        (lambda x: torch._foreach_add([x, x], 1.0), lambda x: (x + 1, x + 1)),
        (lambda x: torch._foreach_addcmul([x], [x], [x], value=3), lambda x: x + 3 * x * x),
        (lambda x: torch._foreach_norm([x, x]), lambda x: (x.norm(), x.norm())),
        (lambda x: torch.softmax(x, 1), softmax),
        (
            lambda x: aten._softmax_backward_data(x, x, 1, torch.float32),
            lambda x: x * (x - (x * x).sum(1, keepdim=True)),
        ),
        (lambda x: functional.mse_loss(x, x + 0), lambda x: ((x - (x + 0)) ** 2).mean()),
        (lambda x: functional.mse_loss(x, x, reduction="none"), lambda x: (x - x) ** 2),
        (lambda x: torch.dist(x, x), lambda x: torch.norm(x - x)),
        (torch.aminmax, torch.amax),
    ],
)
def test_a_fused_operator_counts_what_its_steps_do(fused, steps):
    assert arith(fused, X) == arith(steps, X)


def test_glu_is_a_sigmoid_and_a_product():
    a, b = X.chunk(2, 1)
    assert arith(functional.glu, X) == arith(lambda: a * torch.sigmoid(b))


def test_dropout_multiplies_twice_and_draws_for_nothing():
    assert arith(aten.native_dropout, X, 0.5, True) == 2 * N  # by the mask, by the scale
    assert arith(aten.native_dropout, X, 0.5, False) == 0


def test_sorting_takes_a_comparison_for_each_bit_of_the_length():
    assert arith(torch.sort, X) == N * log2(8)
    assert arith(torch.sort, X, 0) == N * log2(4)
    assert arith(torch.sort, X, dim=0, stable=True) == N * log2(4)
    assert arith(torch.topk, X, 2) == N  # selecting looks at each once


def test_searching_halves_what_is_left():
    assert arith(torch.searchsorted, torch.arange(7.0), X) == N * log2(7 + 1)
    assert arith(torch.bucketize, X, torch.arange(7.0)) == N * log2(7 + 1)


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


def test_a_norm_of_weights_is_a_reduction_and_a_product():
    v, g = torch.randn(4, 8), torch.randn(4, 1)
    assert cost_of(aten._weight_norm_interface.default, v, g, 0).arith == 2 * N
