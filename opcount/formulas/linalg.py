"""Dense linear algebra: leading terms of the textbook algorithms, for each matrix of the batch.

Their inner loops are multiply-accumulates, so that a textbook's ``2 n^3 / 3`` flops are ``n^3 / 3`` MACs here.
Terms of lower order are left out, as in the book. ``m`` and ``n`` are rows and columns, ``r`` the smaller, ``k`` the
number of right-hand sides; complex matrices take four real MACs for each.

Source: Golub and Van Loan, Matrix Computations, 4th edition: LU and solving 3.1 to 3.2, Cholesky 4.2, LDL 4.4, QR 5.2
(orthogonal factors as LAPACK's working note 41 counts them), eigenvalues 7.5.6 and 8.3.3, SVD 8.6 (Golub-Reinsch).
Iterations end when the data allow it: the books' averages are taken.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.registry import OperatorNames, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor

prims = OperatorNames("prims")


@formula(aten.cholesky, aten.linalg_cholesky_ex, aten.linalg_ldl_factor_ex)
def cholesky(self: Tensor) -> Cost:
    """``L L^T = A``: ``n^3 / 6`` MACs; ``L D L^T`` takes as many."""
    return _each(self, self.shape[-1] ** 3 // 6)


@formula(aten.linalg_lu, aten.linalg_lu_factor_ex)
def lu(A: Tensor) -> Cost:
    """``P L U = A``: ``m n r - (m + n) r^2 / 2 + r^3 / 3`` MACs, ``n^3 / 3`` for a square matrix."""
    return _each(A, _factor(*A.shape[-2:]))


@formula(aten._linalg_det, aten._linalg_slogdet)
def det(A: Tensor) -> Cost:
    """The product of the diagonal of ``U``: ``n^3 / 3`` MACs for the factors, and ``n`` products."""
    n = A.shape[-1]
    return Cost(_each(A, _factor(n, n))[0], prod(A.shape[:-1]), 0)


@formula(aten._linalg_solve_ex)
def solve(out: tuple[Tensor, ...], A: Tensor) -> Cost:
    """``A X = B``: ``n^3 / 3`` MACs for the factors, ``n^2 k`` for two triangular systems."""
    n = A.shape[-1]
    return _plus(_each(A, _factor(n, n)), _each_output(out[0], n, 1))


@formula(aten.linalg_lu_solve)
def lu_solve(out: Tensor, LU: Tensor) -> Cost:
    """``L U X = B``: ``n^2 k`` MACs for two triangular systems."""
    return _each_output(out, LU.shape[-1], 1)


@formula(aten.cholesky_solve, aten._cholesky_solve_helper, aten.linalg_ldl_solve)
def cholesky_solve(out: Tensor) -> Cost:
    """``L L^T X = B``: ``n^2 k`` MACs for two triangular systems."""
    return _each_output(out, out.shape[-2], 1)


@formula(aten.linalg_solve_triangular)
def solve_triangular(out: Tensor, self: Tensor) -> Cost:
    """``T X = B``: ``n^2 k / 2`` MACs."""
    return _each_output(out, self.shape[-1], 2)


@formula(aten.triangular_solve)
def triangular_solve(out: tuple[Tensor, Tensor], A: Tensor) -> Cost:
    """``T X = B``: ``n^2 k / 2`` MACs."""
    return _each_output(out[0], A.shape[-1], 2)


@formula(aten.linalg_inv_ex)
def inverse(A: Tensor) -> Cost:
    """``A^-1`` from its LU factors: ``n^3`` MACs."""
    return _each(A, A.shape[-1] ** 3)


@formula(aten.cholesky_inverse)
def cholesky_inverse(self: Tensor) -> Cost:
    """``(L L^T)^-1`` from ``L``: ``n^3 / 3`` MACs."""
    return _each(self, self.shape[-1] ** 3 // 3)


@formula(aten.geqrf)
def geqrf(self: Tensor) -> Cost:
    """Householder's QR, the reflections kept as they are: ``m n^2 - n^3 / 3`` MACs for a tall matrix."""
    return _each(self, _reflect(*self.shape[-2:]))


@formula(aten.linalg_qr)
def qr(A: Tensor, mode: str) -> Cost:
    """Householder's QR, ``m n^2 - n^3 / 3`` MACs for a tall matrix; as many to form a reduced ``Q``.

    A complete ``Q`` takes ``2 (m^2 r - m r^2 + r^3 / 3)``.
    """
    m, n = A.shape[-2:]
    columns = {"reduced": min(m, n), "complete": m}.get(mode, 0)
    return _each(A, _reflect(m, n) + (_form_q(m, columns, min(m, n)) if columns else 0))


@formula(aten.linalg_householder_product)
def householder_product(input: Tensor, tau: Tensor) -> Cost:
    """``k`` reflections multiplied into an ``m x n`` matrix: ``2 m n k - (m + n) k^2 + 2 k^3 / 3`` MACs."""
    m, n = input.shape[-2:]
    return _each(input, _form_q(m, n, tau.shape[-1]))


@formula(aten.ormqr)
def ormqr(input2: Tensor, input3: Tensor, left: bool) -> Cost:
    """``k`` reflections applied to an ``m x n`` matrix from the left: ``2 m n k - n k^2`` MACs.

    From the right, ``2 m n k - m k^2``.
    """
    m, n = input3.shape[-2:]
    k = input2.shape[-1]
    return _each(input3, 2 * m * n * k - (n if left else m) * k * k)


@formula(aten._linalg_svd, aten.linalg_svd, prims.svd)
def svd(A: Tensor, full_matrices: bool, compute_uv: bool = True) -> Cost:
    """``U S V^T = A``, for ``m >= n``: ``2 m n^2 - 2 n^3 / 3`` MACs for the values alone.

    ``7 m n^2 + 4 n^3`` with the thin factors, ``2 m^2 n + 4 m n^2 + 9 n^3 / 2`` with the full ones.
    """
    return _each(A, _svd(*A.shape[-2:], full=full_matrices, vectors=compute_uv))


@formula(aten._linalg_eigh)
def eigh(A: Tensor, compute_v: bool) -> Cost:
    """The symmetric QR algorithm: ``2 n^3 / 3`` MACs for the values alone, ``9 n^3 / 2`` with the vectors."""
    n3 = A.shape[-1] ** 3
    return _each(A, 9 * n3 // 2 if compute_v else 2 * n3 // 3)


@formula(aten.linalg_matrix_sqrth)
def matrix_sqrth(out: Tensor, a: Tensor, /, **_: object) -> Cost:
    """``x = (v * sqrt(w)) @ v.T`` from the eigenvalues ``w`` and vectors ``v``: ``9 n^3 / 2 + n^3`` MACs.

    The vectors are scaled once, and ``n`` roots taken.
    """
    n = a.shape[-1]
    values = out.numel() // n if n else 0
    return _each(a, 9 * n**3 // 2 + n**3) + Cost(arith=out.numel() + values)


@formula(aten.linalg_eig)
def eig(self: Tensor) -> Cost:
    """The QR algorithm with the vectors: ``25 n^3 / 2`` MACs."""
    return _each(self, 25 * self.shape[-1] ** 3 // 2)


@formula(aten.linalg_eigvals, aten._linalg_eigvals)
def eigvals(self: Tensor) -> Cost:
    """The QR algorithm without the vectors: ``5 n^3`` MACs."""
    return _each(self, 5 * self.shape[-1] ** 3)


@formula(aten.linalg_pinv)
def pinv(self: Tensor, hermitian: bool) -> Cost:
    """``V S^-1 U^T``: a thin SVD, or the eigenvectors of a Hermitian matrix, and a product of ``m n r`` MACs."""
    m, n = self.shape[-2:]
    factors = 9 * n**3 // 2 if hermitian else _svd(m, n, full=False, vectors=True)
    return _each(self, factors + m * n * min(m, n))


@formula(aten.linalg_lstsq)
def lstsq(self: Tensor, b: Tensor, driver: str | None) -> Cost:
    """``min |A X - B|`` by QR: ``m n^2 - n^3 / 3`` MACs, ``k (2 m n - n^2)`` to apply ``Q``, ``k n^2 / 2`` to solve.

    The drivers ``gelsd`` and ``gelss`` take a thin SVD instead, and ``k (m n + n^2)`` to apply its factors.
    """
    m, n = self.shape[-2:]
    k = 1 if b.dim() == self.dim() - 1 else b.shape[-1]
    long, short = max(m, n), min(m, n)
    if driver in ("gelsd", "gelss"):
        return _each(self, _svd(m, n, full=False, vectors=True) + k * short * (long + short))
    return _each(self, _reflect(m, n) + k * (2 * long * short - short**2) + k * short**2 // 2)


@formula(aten.linalg_matrix_exp)
def matrix_exp(self: Tensor) -> Cost:
    """A Taylor polynomial of degree 18, evaluated in five products: ``5 n^3`` MACs.

    Small norms take lower degrees, large ones further squarings: the data decide. Source: Bader, Blanes and Casas,
    Computing the matrix exponential with an optimized Taylor polynomial approximation, 2019.
    """
    return _each(self, 5 * self.shape[-1] ** 3)


@formula(aten._compute_linear_combination)
def linear_combination(out: Tensor, coefficients: Tensor) -> Cost:
    """``out[i] = sum(coefficients[i, j] * x[j] for j)``."""
    return Cost(_real(out) * out.numel() * coefficients.shape[-1], 0, 0)


def _real(x: Tensor) -> int:
    return 4 if x.is_complex() else 1


def _each(a: Tensor, macs: int) -> Cost:
    return Cost(_real(a) * prod(a.shape[:-2]) * macs, 0, 0)


def _each_output(out: Tensor, n: int, share: int) -> Cost:
    return Cost(_real(out) * out.numel() * n // share, 0, 0)


def _plus(left: Cost, right: Cost) -> Cost:
    return Cost(left[0] + right[0], left[1] + right[1], 0)


def _factor(m: int, n: int) -> int:
    """Eliminate ``r`` columns, each by one rank-1 update of what is left."""
    r = min(m, n)
    return (6 * m * n * r - 3 * (m + n) * r**2 + 2 * r**3) // 6


def _reflect(m: int, n: int) -> int:
    """Apply ``r`` reflections, each to what is left: a product and a rank-1 update."""
    return 2 * _factor(m, n)


def _form_q(m: int, n: int, k: int) -> int:
    return (6 * m * n * k - 3 * (m + n) * k**2 + 2 * k**3) // 3


def _svd(m: int, n: int, *, full: bool, vectors: bool) -> int:
    m, n = max(m, n), min(m, n)
    if not vectors:
        return 2 * m * n**2 - 2 * n**3 // 3
    return (4 * m**2 * n + 8 * m * n**2 + 9 * n**3) // 2 if full else 7 * m * n**2 + 4 * n**3
