"""Counts as text, and back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcount.errors import InputError
from opcount.reporter.numbers import openmmlab, percent, si
from opcount.selectors import PREFIXES, parse

COUNTS = st.integers(-(10**30), 10**30) | st.integers(-1500, 1500)


@given(COUNTS)
def test_a_count_reads_back_to_what_its_digits_promise(count):
    text = si(count)
    if abs(count) < 1000:
        assert text == str(count)
    elif "e" not in text:
        read, _ = parse(text)
        assert abs(read - count) <= Decimal(abs(count)) * Decimal("0.0005")


@given(COUNTS.filter(bool))
def test_what_is_not_nothing_never_prints_as_nothing(count):
    assert Decimal(si(count).split()[0]) != 0


@given(st.integers(0, 10**26 - 1))
def test_one_to_three_digits_stand_before_the_point(count):
    digits = si(count).split()[0].split(".")[0]
    assert 1 <= len(digits) <= 3


@given(st.integers(0, 10**24), st.integers(0, 10**24))
def test_a_larger_count_never_prints_as_less(a, b):
    small, large = sorted((a, b))
    assert parse(si(small))[0] <= parse(si(large))[0]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 MAC"),
        (1, "1 MAC"),
        (999, "999 MAC"),
        (1000, "1.000 kMAC"),
        (999_499, "999.499 kMAC"),
        (999_999, "999.999 kMAC"),
        (999_999_499, "999.999 MMAC"),
        (999_999_500, "1.000 GMAC"),  # half to even, over the edge of the prefix
        (-4_200_000_000, "-4.200 GMAC"),
        (10**27, "1.000e+27 MAC"),  # beyond the prefixes
    ],
)
def test_prefixes_change_at_a_thousand(count, text):
    assert si(count, "MAC") == text


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("4.2 GMAC", (4_200_000_000, "MAC")),
        ("4.2GMAC", (4_200_000_000, "MAC")),
        ("400 MAC", (400, "MAC")),
        ("1 MMAC", (10**6, "MAC")),
        ("11 MACT", (11 * 10**6, "ACT")),  # mega-activations
        ("8.4 GFLOP", (8_400_000_000, "FLOP")),
        ("25.6 Mparam", (25_600_000, "param")),
        ("1e9 param", (10**9, "param")),
        ("1_000,000 kFLOP", (10**9, "FLOP")),
        ("+.5 KFLOP", (500, "FLOP")),
        ("-3 MAC", (-3, "MAC")),
    ],
)
def test_quantities_are_read_exactly_with_or_without_a_prefix(text, quantity):
    assert parse(text, ("MAC", "FLOP", "ACT", "param")) == quantity


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GMAC",
        "4.2",
        "4.2 G",
        "4.2 mMAC",
        "4.2 GMACs",
        "4..2 GMAC",
        "nan MAC",
        "inf MAC",
        "0.5 MAC",
        4,
        None,
        "1e99 MAC",
    ],
)
def test_what_is_no_whole_quantity_of_a_known_unit_is_refused_with_the_value(text):
    with pytest.raises(InputError, match=r"parse: expected a (quantity|whole number)") as caught:
        parse(text, ("MAC",))
    assert repr(text) in str(caught.value)


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_a_share_is_0_or_100_percent_only_if_it_is_exactly_that(part, whole):
    part = min(part, whole)
    text = percent(part, whole)
    assert (text == "0.0 %") == (part == 0)
    assert (text == "100.0 %") == (part == whole)


@given(st.integers(0, 10**18), st.integers(1, 5))
def test_mmengines_numbers_are_within_half_a_unit_of_their_last_digit(count, digits):
    text = openmmlab(count, digits)
    scale = 1000 ** (" KMGTP".index(text[-1]) if text[-1] in PREFIXES or text[-1] == "K" else 0)
    assert (
        abs(Decimal(text.rstrip("KMGTP")) * scale - count) <= Decimal(scale) / 2 / 10**digits + Decimal(count) / 10**14
    )
