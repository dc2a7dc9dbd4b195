"""Quantities as people write them."""

from __future__ import annotations

import pytest

from opcount.budget.limit import read_quantity, read_rtol, show_apart, show_change
from opcount.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "metric", "count"),
    [
        ("4.2 GMAC", "macs", 4_200_000_000),
        ("8.4 GFLOP", "flops", 8_400_000_000),
        ("8.4GFLOPs", "flops", 8_400_000_000),
        ("11 MACT", "activations", 11_000_000),
        ("11 ACT", "activations", 11),
        ("1 MAC", "macs", 1),
        ("25.6 Mparam", "params", 25_600_000),
        ("0 MAC", "macs", 0),
        ("1 kMAC", "macs", 1000),
        ("1 EMAC", "macs", 10**18),
        ("1_500 MAC", "macs", 1500),
    ],
)
def test_a_quantity_is_a_number_a_prefix_and_a_unit(text, metric, count):
    assert read_quantity(text) == (metric, count)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("4.2", "expected a quantity such as '4.2 GMAC', got '4.2' of type str. Write a whole number and its unit"),
        ("4.2 G", "got '4.2 G' of type str. Write a whole number and its unit"),
        ("4.2 GMACC", "got '4.2 GMACC' of type str. Did you mean 'GMAC'?"),
        ("4.2 gmac", "Did you mean 'GMAC'?"),
        ("4.2 parsec", "The units are MAC, FLOP, ACT, param"),
        ("-1 MAC", "expected a count from 0 up, got '-1 MAC'"),
        ("nan MAC", "got 'nan MAC' of type str"),
        ("inf MAC", "got 'inf MAC' of type str"),
        ("0.5 MAC", "counts are whole"),
        ("", "got '' of type str"),
        (400, "Write '400 MAC', or pass max_macs=400: a bare number is of no unit."),
        (float("nan"), "got nan of type float"),
        (4.2, "got 4.2 of type float"),
        (True, "got True of type bool"),
        (None, "got None of type NoneType"),
    ],
)
def test_what_is_no_quantity_is_refused_with_its_value_and_the_remedy(given, message):
    with pytest.raises(BudgetError) as caught:
        read_quantity(given)
    assert message in str(caught.value)
    assert str(caught.value).startswith("expected ")


def test_an_integer_needs_a_metric_and_may_not_be_negative_nor_nan():
    assert read_quantity(400, "flops") == ("flops", 400)
    for bad in (-1, float("nan"), float("inf"), 1.5):
        with pytest.raises(BudgetError):
            read_quantity(bad, "flops")


def test_the_unit_has_to_be_the_metrics():
    with pytest.raises(BudgetError, match=r"expected a quantity such as '4.2 GFLOP', got '1 MAC'.*which counts macs"):
        read_quantity("1 MAC", "flops")


@pytest.mark.parametrize("rtol", [-0.1, float("nan"), float("inf"), "1 %", True, None])
def test_a_tolerance_is_a_number_from_0_up(rtol):
    with pytest.raises(BudgetError, match=r"expected an rtol such as 0.01"):
        read_rtol(rtol)


def test_counts_that_differ_never_print_the_same():
    assert show_apart(4_200_000_000, 4_910_000_000, "macs") == ("4.200 GMAC", "4.910 GMAC")
    assert show_apart(4_200_000_000, 4_200_000_001, "macs") == ("4,200,000,000 MAC", "4,200,000,001 MAC")
    assert show_change(4_200_000_000, 4_910_000_000) == "+16.9 %"  # 0.71 / 4.2 = 0.169
    assert show_change(4_200_000_000, 4_200_000_001) == "+1"
    assert show_change(0, 7) == "+7"
    assert show_change(400, 400) == "+0.0 %"
