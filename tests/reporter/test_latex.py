"""The table in LaTeX: nothing of a name is taken for a command, and the rules are those of booktabs."""

from __future__ import annotations

import re

from opcount.cost import Cost
from opcount.profile import Module, Profile, Record
from opcount.reporter.latex import render

NAME = r"a_b\input{x} %$&#^~<>"
PROFILE = Profile(
    (Record(("", NAME), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(24, 0, 8)),),
    {"": Module("", "Net_1", 12, 1), NAME: Module(NAME, "Linear", 12, 1)},
)


def test_rows_have_as_many_cells_as_the_table_has_columns_between_the_rules():
    lines = render(PROFILE).splitlines()
    table = lines[lines.index(r"\begin{tabular}{llrrrr}") :]
    rules = [line for line in table if line.startswith("\\") and line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [line for line in table if line.endswith(r" \\")]
    assert [len(re.split(r"(?<!\\)&", row)) for row in rows] == [6, 6, 6]
    assert rows[1].startswith(r"model & Net\_1 & 12 & 24 & 8 & 100.0 \% \\")


def test_names_are_text():
    row = next(line for line in render(PROFILE).splitlines() if r"\hspace" in line)
    name = row.removeprefix(r"\hspace{1em}").partition(" & Linear")[0]
    bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[&%$#_{}]", "", name)
    assert not set(bare) & set(r"\%$&#^~_{}<>")


def test_the_totals_are_comments():
    comments = [line for line in render(PROFILE).splitlines() if not line.startswith(("\\", "m"))]
    assert comments[0] == "% total: 24 MAC = 48 FLOP at 2 per MAC, 8 activations, 12 parameters"
    assert all(line.startswith("% ") for line in comments if " & " not in line)
