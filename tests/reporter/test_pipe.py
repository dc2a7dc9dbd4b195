"""Tables between pipes, against tabulate, which fvcore prints with."""

from __future__ import annotations

import inspect
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcount.reporter.pipe import piped

tabulate = pytest.importorskip("tabulate")

TEXTS = st.sampled_from(
    ["", "0", "7", "100", "99.5", "72.0", "1e5", "0.101K", "4.145G", "(64, 3, 7, 7)", "model", "layer1.0", "1_0", "-3"]
)
CELLS = st.builds(lambda depth, text: " " * depth + text if text else "", st.integers(0, 3), TEXTS)


def by_tabulate(headers, rows):
    """Ask for leading blanks to be kept, in old versions and in new ones."""
    new = "preserve_whitespace" in inspect.signature(tabulate.tabulate).parameters
    with mock.patch.object(tabulate, "PRESERVE_WHITESPACE", True, create=True):
        options = {"preserve_whitespace": True} if new else {}
        return tabulate.tabulate(rows, headers=headers, tablefmt="pipe", **options)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5))
def test_every_table_is_tabulates(rows):
    headers = ["module", "#parameters or shape", "#"]
    assert piped(headers, rows) == by_tabulate(headers, rows)


@given(st.lists(st.sampled_from(["", "0", " 7", "  100", " 99.5", "72.0"]), min_size=1, max_size=6))
def test_numbers_stand_at_the_right_by_their_points(cells):
    rows = [["x", cell] for cell in cells]
    assert piped(["module", "#flops"], rows) == by_tabulate(["module", "#flops"], rows)
