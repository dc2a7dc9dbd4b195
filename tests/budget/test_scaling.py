"""Growth, fitted on exact counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from opcount import BudgetExceededError, flop_budget
from opcount.budget import scaling
from opcount.errors import BudgetError


class Attention(nn.Module):
    def forward(self, x):
        return (x @ x.T) @ x  # 2 n^2 d


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.mlp = nn.Linear(64, 64)

    def forward(self, x):
        return self.mlp(self.attention(x))


def mix(n):
    return torch.ones(n, n) @ torch.ones(n, 2)  # 2 n^2


@pytest.mark.parametrize(("at_most", "passes"), [("n^2", True), ("n^1.99", False), ("n", False), ("n^3", True)])
def test_the_exponent_of_a_square_is_two(at_most, passes):
    if passes:
        growth = flop_budget.scaling(mix, sizes=(8, 16, 32), at_most=at_most)
        assert growth.exponent == pytest.approx(2)
        assert growth.counts == {n: 2 * n**2 for n in (8, 16, 32)}
    else:
        with pytest.raises(BudgetExceededError, match=r"grew as n\^2\.00"):
            scaling(mix, sizes=(8, 16, 32), at_most=at_most)


def test_a_line_with_an_offset_and_a_constant_fit():
    line = nn.Linear(4, 4)
    scaling(lambda n: line(torch.ones(n + 5, 4)), sizes=(8, 16, 32), at_most="n")
    scaling(lambda _: line(torch.ones(5, 4)), sizes=(8, 16, 32), at_most="1")


def test_the_failure_shows_the_curve_and_the_module_that_grows_fastest():
    block = Block()
    with pytest.raises(BudgetExceededError) as caught:
        scaling(lambda n: block(torch.ones(n, 64)), sizes=(32, 64, 128), at_most="n^1", model=block)
    counts = [2 * n * n * 64 + n * 64 * 64 for n in (32, 64, 128)]
    exponent = np.polyfit(np.log([32, 64, 128]), np.log(counts), 1)[0]
    who, _, sentence = str(caught.value).partition(": ")
    assert who in {
        "scaling",
        "test_the_failure_shows_the_curve_and_the_module_that_grows_fastest",
    }  # where the plugin runs
    assert sentence == (
        f"limited to n^1, grew as n^{exponent:.2f} "
        f"(n = 32: {counts[0] / 1e3:.3f} kMAC, 64: {counts[1] / 1e3:.3f} kMAC, 128: {counts[2] / 1e6:.3f} MMAC). "
        "Grows fastest: attention n^2.00."
    )
    assert [line.split()[:2] for line in caught.value.evidence.splitlines()[1:]] == [
        ["attention", "n^2.00"],
        ["mlp", "n^1.00"],
    ]


def test_n_log_n_is_what_repeated_halving_takes():
    def halve(n):
        for _ in range(int(math.log2(n))):
            torch.ones(n, 1) @ torch.ones(1, 1)

    scaling(halve, sizes=(128, 256, 512), at_most="n log n")
    with pytest.raises(BudgetExceededError):
        scaling(halve, sizes=(128, 256, 512), at_most="n")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sizes": (8,), "at_most": "n"}, "expected at least two different sizes"),
        ({"sizes": (8, 8), "at_most": "n"}, "expected at least two different sizes"),
        ({"sizes": (0, 8), "at_most": "n"}, "integers above 0, got [0, 8]"),
        ({"sizes": (8, 16), "at_most": "m^2"}, "expected a curve such as 'n', 'n log n' or 'n^2', got 'm^2'"),
        ({"sizes": (8, 16), "at_most": 2}, "got 2 of type int"),
        ({"sizes": (1, 8), "at_most": "n log n"}, "expected sizes above 1 for 'n log n'"),
        ({"sizes": (8, 16), "at_most": "n", "metric": "time"}, "expected a metric out of"),
    ],
)
def test_what_cannot_be_fitted_is_refused(kwargs, message):
    with pytest.raises(BudgetError) as caught:
        scaling(mix, **kwargs)
    assert message in str(caught.value)


def test_nothing_counted_is_no_success():
    with pytest.raises(BudgetExceededError, match="0 operators seen at n = 8"):
        scaling(lambda n: n, sizes=(8, 16), at_most="n")
    with pytest.raises(BudgetExceededError, match="0 MAC counted at n = 8"):
        scaling(torch.ones, sizes=(8, 16), at_most="n")
