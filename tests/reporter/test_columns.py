"""Columns: PrettyTable is the oracle, which measures every character as a terminal does."""

from hypothesis import given
from hypothesis import strategies as st
from prettytable import PrettyTable

from opcount.reporter.columns import framed, plain

CELLS = st.text(st.sampled_from("ab .0é你👍\u0301\u200dｱ'|-"), max_size=7)


@st.composite
def tables(draw):
    columns = draw(st.integers(1, 5))
    row = st.lists(CELLS, min_size=columns, max_size=columns)
    return draw(row), draw(st.lists(row, min_size=1, max_size=4)), draw(st.integers(0, columns))


def by_prettytable(headers, rows, words, *, border=True):
    names = [str(i) for i in range(len(headers))]
    table = PrettyTable(names, header=False, border=border)
    table.align = "r"
    if not border:
        table.left_padding_width, table.right_padding_width = 0, 2
    for name in names[:words]:
        table.align[name] = "l"
    table.add_rows([headers, *rows])
    return table.get_string().splitlines()


@given(tables())
def test_a_plain_table_is_aligned_as_by_prettytable(table):
    headers, rows, words = table
    expected = by_prettytable(headers, rows, words, border=False)
    header, _, *body = plain(headers, rows, words)
    assert [header, *body] == [line.rstrip() for line in expected]


@given(tables())
def test_a_framed_table_is_aligned_as_by_prettytable(table):
    headers, rows, _ = table
    top, header, *rest = by_prettytable(headers, rows, len(headers))
    assert framed(headers, rows) == "\n".join([top, header, top, *rest, ""])
