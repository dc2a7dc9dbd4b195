"""Products with sparse matrices, against loops over their stored values."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.formulas.seen import seen


def stored_products(a, b):
    """Multiply two dense matrices by their nonzero values alone; return the multiply-accumulates."""
    out, macs = torch.zeros(a.shape[0], b.shape[1]), 0
    for i, k in a.nonzero().tolist():
        for j in b[k].nonzero().flatten().tolist():
            out[i, j] += a[i, k] * b[k, j]
            macs += 1
    assert torch.allclose(out, a @ b)
    return macs


@pytest.fixture
def pair():
    torch.manual_seed(0)
    a = torch.randn(6, 8) * (torch.rand(6, 8) < 0.3)
    return a, torch.randn(8, 4)


@pytest.fixture(autouse=True)
def _beta():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Sparse CSR tensor support is in beta state"
        yield


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_a_sparse_matrix_counts_its_stored_values_for_each_column(pair, layout):
    a, b = pair
    assert seen(torch.mm, getattr(a, layout)(), b).total.macs == stored_products(a, b)


def test_a_sparse_matrix_on_the_right_counts_its_stored_values_for_each_row(pair):
    a, b = pair
    assert seen(torch.mm, b.T.contiguous(), a.T.contiguous().to_sparse_csc()).total.macs == stored_products(b.T, a.T)


def test_the_bias_of_a_sparse_product_is_arithmetic(pair):
    a, b = pair
    cost = seen(torch.sparse.addmm, torch.ones(6, 4), a.to_sparse(), b).total
    assert (cost.macs, cost.arith, cost.activations) == (stored_products(a, b), 6 * 4, 6 * 4)


def test_two_sparse_matrices_count_the_values_that_meet(pair):
    a, _ = pair
    b = torch.randn(8, 5) * (torch.rand(8, 5) < 0.3)
    assert seen(torch.mm, a.to_sparse(), b.to_sparse()).total.macs == stored_products(a, b)
    assert seen(torch.mm, a.to_sparse_csr(), b.to_sparse_csr()).total.macs == stored_products(a, b)


def test_blocks_count_whole():
    dense = torch.zeros(4, 4)
    dense[0, 0] = dense[3, 2] = 1
    blocks = dense.to_sparse_bsr((2, 2))  # two blocks of 2 x 2
    assert seen(torch.mm, blocks, torch.ones(4, 6)).total.macs == 2 * (2 * 2) * 6


def test_a_batch_of_sparse_matrices_counts_all_stored_values():
    a = torch.eye(4).expand(3, 4, 4).to_sparse()
    assert seen(torch.bmm, a, torch.ones(3, 4, 5)).total.macs == 3 * 4 * 5


def test_a_sparse_matrix_times_a_vector_counts_its_stored_values(pair):
    a, _ = pair
    assert seen(torch.mv, a.to_sparse_csr(), torch.ones(8)).total.macs == int(a.count_nonzero())


def test_a_sampled_product_counts_a_dot_product_for_each_stored_value(pair):
    a, _ = pair
    cost = seen(torch.sparse.sampled_addmm, a.to_sparse_csr(), torch.ones(6, 3), torch.ones(3, 8)).total
    values = int(a.count_nonzero())
    assert (cost.macs, cost.arith) == (values * 3, values)


def test_a_dense_product_stays_dense(pair):
    a, b = pair
    assert seen(torch.mm, a, b).total.macs == 6 * 8 * 4
