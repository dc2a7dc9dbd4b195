"""Fourier transforms, against the algorithm of Cooley and Tukey, which counts what it does."""

from __future__ import annotations

import cmath

import pytest
import torch

from tests.formulas.seen import cost_of

aten = torch.ops.aten


def radix_2(x):
    """Transform by the algorithm of Cooley and Tukey; return the result and the real operations."""
    n = len(x)
    if n == 1:
        return x, 0
    (even, left), (odd, right) = radix_2(x[::2]), radix_2(x[1::2])
    operations = left + right
    out = [0j] * n
    for k in range(n // 2):
        turned = cmath.exp(-2j * cmath.pi * k / n) * odd[k]
        out[k], out[k + n // 2] = even[k] + turned, even[k] - turned
        operations += 6 + 2 + 2  # a complex product and two complex sums
    return out, operations


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_a_transform_counts_the_operations_of_its_butterflies(n):
    x = torch.randn(n, dtype=torch.complex128)
    values, operations = radix_2(x.tolist())
    assert torch.allclose(torch.tensor(values, dtype=torch.complex128), torch.fft.fft(x))
    assert cost_of(aten._fft_c2c.default, x, [0], 0, True).arith == operations


def test_a_transform_over_two_dimensions_counts_its_rows_and_columns():
    rows = 4 * radix_2([0j] * 8)[1]
    columns = 8 * radix_2([0j] * 4)[1]
    assert (
        cost_of(aten._fft_c2c.default, torch.ones(4, 8, dtype=torch.complex64), [0, 1], 0, True).arith == rows + columns
    )


def test_a_real_transform_takes_half_of_a_complex_one():
    half = radix_2([0j] * 64)[1] // 2
    assert cost_of(aten._fft_r2c.default, torch.ones(64), [0], 0, True).arith == half
    assert cost_of(aten._fft_c2r.default, torch.ones(33, dtype=torch.complex64), [0], 2, 64).arith == half


def test_a_real_transform_over_two_dimensions_is_a_real_and_a_complex_one():
    x = torch.ones(16, 8)
    both = cost_of(aten._fft_r2c.default, x, [0, 1], 0, True)
    first = torch.ops.aten._fft_r2c(x, [1], 0, True)
    one_by_one = cost_of(aten._fft_r2c.default, x, [1], 0, True) + cost_of(aten._fft_c2c.default, first, [0], 0, True)
    assert both == one_by_one
