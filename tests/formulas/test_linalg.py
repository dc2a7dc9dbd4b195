"""Textbook algorithms that count their own multiply-accumulates: formulas give their leading terms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opcount.cost import Cost
from opcount.formulas import linalg
from tests.formulas.seen import cost_of

aten = torch.ops.aten
N = 60
CLOSE = 4 / N  # what lower orders may add


def triangle_solve(a, b):
    """Solve a lower triangular system; return the multiply-accumulates."""
    x, macs = np.array(b), 0
    for i in range(len(a)):
        for j in range(i):
            x[i] -= a[i, j] * x[j]
            macs += x[i].size
        x[i] /= a[i, i]
    assert np.allclose(a @ x, b)
    return macs


def cholesky(a):
    lower, macs = np.zeros_like(a), 0
    for j in range(len(a)):
        for i in range(j, len(a)):
            total = a[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
                macs += 1
            lower[i, j] = np.sqrt(total) if i == j else total / lower[j, j]
    assert np.allclose(lower @ lower.T, a)
    return macs


def eliminate(a):
    """Gauss's elimination of an m x n matrix; return the multiply-accumulates."""
    a, macs = np.array(a), 0
    m, n = a.shape
    for k in range(min(m, n)):
        for i in range(k + 1, m):
            a[i, k] /= a[k, k]
            for j in range(k + 1, n):
                a[i, j] -= a[i, k] * a[k, j]
                macs += 1
    return macs


def reflect(a):
    """Householder's QR; return the reflections and the multiply-accumulates."""
    r, vectors, macs = np.array(a), [], 0
    m, n = r.shape
    for k in range(min(m - 1, n)):
        v = np.array(r[k:, k])
        v[0] += np.copysign(np.linalg.norm(v), v[0])
        v /= np.linalg.norm(v)
        for j in range(k, n):
            dot = v @ r[k:, j]
            r[k:, j] -= 2 * dot * v
            macs += 2 * len(v)
        vectors.append(v)
    assert np.allclose(np.tril(r, -1), 0)
    return vectors, macs


def form_q(vectors, m, columns):
    """Multiply the reflections into the first columns of the identity, from the last one back."""
    q, macs = np.eye(m, columns), 0
    for k in reversed(range(len(vectors))):
        for j in range(k, columns):
            q[k:, j] -= 2 * (vectors[k] @ q[k:, j]) * vectors[k]
            macs += 2 * len(vectors[k])
    assert np.allclose(q.T @ q, np.eye(columns))
    return macs


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def definite(rng):
    a = rng.standard_normal((N, N))
    return a @ a.T + N * np.eye(N)


def test_cholesky(rng):
    a = definite(rng)
    assert cost_of(aten.linalg_cholesky_ex.default, torch.tensor(a)).macs == pytest.approx(cholesky(a), rel=CLOSE)


@pytest.mark.parametrize("shape", [(N, N), (2 * N, N), (N, 2 * N)], ids=str)
def test_lu_of_any_shape(rng, shape):
    a = rng.standard_normal(shape) + 3 * np.eye(*shape)
    assert cost_of(aten.linalg_lu_factor_ex.default, torch.tensor(a)).macs == pytest.approx(eliminate(a), rel=CLOSE)


def test_solving_factors_and_solves_two_triangular_systems_for_each_right_hand_side(rng):
    a, b = definite(rng), rng.standard_normal((N, 7))
    each = triangle_solve(np.tril(a), b)
    cost = cost_of(aten._linalg_solve_ex.default, torch.tensor(a), torch.tensor(b))
    assert cost.macs == pytest.approx(eliminate(a) + 2 * each, rel=CLOSE)
    cost = cost_of(aten.linalg_solve_triangular.default, torch.tensor(np.tril(a)), torch.tensor(b), upper=False)
    assert cost.macs == pytest.approx(each, rel=CLOSE)


def test_one_right_hand_side_may_be_a_vector(rng):
    a, b = torch.tensor(definite(rng)), torch.tensor(rng.standard_normal(N))
    assert cost_of(aten._linalg_solve_ex.default, a, b) == cost_of(aten._linalg_solve_ex.default, a, b[:, None])


@pytest.mark.parametrize("shape", [(N, N), (2 * N, N)], ids=str)
def test_qr_reflects_and_forms_q(rng, shape):
    a = rng.standard_normal(shape)
    vectors, macs = reflect(a)
    assert cost_of(aten.geqrf.default, torch.tensor(a)).macs == pytest.approx(macs, rel=CLOSE)
    assert cost_of(aten.linalg_qr.default, torch.tensor(a), "r").macs == pytest.approx(macs, rel=CLOSE)
    for mode, columns in (("reduced", N), ("complete", shape[0])):
        with_q = macs + form_q(vectors, shape[0], columns)
        assert cost_of(aten.linalg_qr.default, torch.tensor(a), mode).macs == pytest.approx(with_q, rel=CLOSE)


def test_reflections_are_multiplied_out_or_applied(rng):
    a = rng.standard_normal((2 * N, N))
    vectors, _ = reflect(a)
    reflections = torch.geqrf(torch.tensor(a))
    macs = form_q(vectors, 2 * N, N)
    assert cost_of(aten.linalg_householder_product.default, *reflections).macs == pytest.approx(macs, rel=CLOSE)
    applied = sum(2 * len(v) * 5 for v in vectors)  # each to five columns, a product and an update
    other = torch.ones(2 * N, 5, dtype=torch.float64)
    assert cost_of(aten.ormqr.default, *reflections, other).macs == pytest.approx(applied, rel=CLOSE)


def test_a_determinant_is_a_product_along_the_diagonal_of_lu(rng):
    cost = cost_of(aten._linalg_det.default, torch.tensor(definite(rng)))
    assert cost == Cost(cost_of(aten.linalg_lu_factor_ex.default, torch.tensor(definite(rng))).macs, N)


def test_a_batch_costs_what_its_matrices_do():
    one, many = torch.eye(5), torch.eye(5).expand(2, 3, 5, 5)
    operators = [aten.linalg_cholesky_ex, aten.linalg_lu, aten.linalg_inv_ex, aten.linalg_qr, aten.linalg_matrix_exp]
    operators += [aten._linalg_eigh, aten.linalg_eig, aten._linalg_svd]
    each = [cost_of(operator.default, one).macs for operator in operators]
    assert [cost_of(operator.default, many).macs for operator in operators] == [6 * macs for macs in each]
    cube = 5**3
    # the averages of the book: 9 n^3 / 2 for eigenvectors, 25 n^3 / 2 without symmetry, 7 + 4 for a thin SVD
    assert each[-3:] == [9 * cube // 2, 25 * cube // 2, 11 * cube]


def test_a_complex_product_is_four_real_ones():
    real, complex_ = torch.eye(6), torch.eye(6, dtype=torch.complex64)
    for operator in (aten.linalg_cholesky_ex, aten.linalg_inv_ex, aten._linalg_svd, aten.linalg_qr):
        assert cost_of(operator.default, complex_).macs == 4 * cost_of(operator.default, real).macs


@pytest.mark.parametrize(
    ("cost", "flops"),
    [
        # Golub and Van Loan, figure 8.6.1: m = 100, n = 20
        (lambda a: cost_of(aten._linalg_svd.default, a, False, False), 4 * 100 * 20**2 - 4 * 20**3 / 3),
        (lambda a: cost_of(aten._linalg_svd.default, a, False, True), 14 * 100 * 20**2 + 8 * 20**3),
        (lambda a: cost_of(aten._linalg_svd.default, a, True, True), 4 * 100**2 * 20 + 8 * 100 * 20**2 + 9 * 20**3),
        # sections 8.3.3 and 7.5.6: n = 20
        (lambda a: cost_of(aten._linalg_eigh.default, a[:20], "L", False), 4 * 20**3 / 3),
        (lambda a: cost_of(aten._linalg_eigh.default, a[:20]), 9 * 20**3),
        (lambda a: cost_of(aten.linalg_eigvals.default, a[:20]), 10 * 20**3),
        (lambda a: cost_of(aten.linalg_eig.default, a[:20]), 25 * 20**3),
    ],
)
def test_iterations_count_the_averages_of_the_book(cost, flops):
    torch.manual_seed(0)
    assert cost(torch.randn(100, 20)).macs == pytest.approx(flops / 2, abs=1)


def test_a_wide_svd_is_a_tall_one():
    assert cost_of(aten._linalg_svd.default, torch.ones(4, 9)) == cost_of(aten._linalg_svd.default, torch.ones(9, 4))


def test_least_squares_count_their_driver():
    a, b = torch.randn(9, 4), torch.randn(9, 2)
    by_qr = cost_of(aten.linalg_lstsq.default, a, b, None, driver="gels").macs
    factor = cost_of(aten.geqrf.default, a).macs
    apply_and_solve = 2 * (2 * 9 * 4 - 4**2) + 2 * 4**2 // 2
    assert by_qr == factor + apply_and_solve
    svd = cost_of(aten._linalg_svd.default, a).macs
    apply_factors = 2 * 9 * 4 + 2 * 4 * 4  # U.T @ b, and V @ that, for two columns
    assert cost_of(aten.linalg_lstsq.default, a, b, None, driver="gelsd").macs == svd + apply_factors


def test_a_matrix_root_is_its_eigenvectors_scaled_and_multiplied(rng):
    a = torch.tensor(np.stack([definite(rng), definite(rng)]))
    cost = linalg.matrix_sqrth(a, a)
    product = cost_of(aten.bmm.default, a, a)
    assert cost.macs == cost_of(aten._linalg_eigh.default, a).macs + product.macs
    assert cost.arith == a.numel() + 2 * N
    assert linalg.matrix_sqrth(torch.ones(0, 0), torch.ones(0, 0)) == Cost()
