"""Names of any kind: modules, classes, operators and phases may be called anything, and every report stays one."""

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from importlib import import_module

import pytest
import torch
from torch import nn

from opcount import OpCounter, get_model_complexity_info
from opcount.budget import Budget, baseline
from opcount.budget.baseline import take
from opcount.budget.budget import enforce
from opcount.budget.verdict import explain
from opcount.budget.watch import Watcher
from opcount.cli.formats import FORMATS
from opcount.cost import Cost
from opcount.errors import BudgetExceededError
from opcount.escapes import printable, visible
from opcount.profile import Module, Profile, Record
from opcount.reporter import csv as as_csv
from opcount.reporter import diff_table, folded, html, markdown, speedscope, table

HOSTILE = [
    "a\nb", "a\\nb", "a\rb", "a\r\nb", "a\tb", "a\x00b", "a\x0bb", "a\x1cb", "a\x85b", "a\u2028b", "a\u2029b", "a\\b",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\x7f", "\x9b1m", "\u202egnpexe", "\u2066x\u2069", "a\u200bb", "a\u200d",
    "\ufeffa", "a\xa0b", "a\xadb", "\u3164", "\u2800", "\ud800", "a\udfffb", "\U000e0041", "a;b", "a:b", "a b", "a_b",
    "a|b", "a\\|b", "`", "a``b", "```", "` a", "<script>alert(1)</script>", "&lt;", "<!--", "]]>", "{{data}}", '"', "'",
    '"a"', "=1+1", "+1", "-1", "-a", "@a", "'=a", "=cmd|' /C calc'!A0", "\t=1", "\uff1d1", "#", "*a*", "[a](b)", "\\",
    "(model)", "model", "'(model)'", "((model))", "[backward]", "'[backward]'", "0-31", "a -> b", "a: macs=1", "a x2",
    "\xb2", "\u0663", "9" * 5000, "n" * 3000, "\u00e9", "e\u0301", "\u6a21\u578b", "\U0001f40d", ",", "a,b", "%s", "{}",
    "$a", "~", "-", " ",
]  # fmt: skip
"""Names that `nn.Module.add_module` takes: anything but the empty string and what has a dot."""


def record(name, **changes):
    return Record(
        ("", name), f"lib.{name}", "matmul", "forward", name, 1, Cost(24, 2, 8), 32, f"({name}) -> 2x4"
    )._replace(**changes)


def profile(*names, macs=24):
    records = tuple(record(name, cost=Cost(macs + i, 0, 8)) for i, name in enumerate(names))
    rest = tuple(record(name, phase=name, family="uncounted", cost=Cost()) for name in names[:5])
    modules = {name: Module(name, name, 12 + i, 1) for i, name in enumerate(names)}
    return Profile(
        records + rest,
        {"": Module("", names[0], 12, 1), **modules},
        provenance={"device": names[0]},
        unattributed={names[0]: 1},
        formulas={f"lib.{name}": f"``{name}``" for name in names},
    )


REPORTS = {
    **{name: import_module(f"opcount.reporter.{name}").render for name in FORMATS if name not in ("arch", "json")},
    "table": lambda p: table.render(p, None),
    "markdown": lambda p: markdown.render(p, None),
    "json": Profile.to_json,
    "diff": lambda p: diff_table.render(profile("x").diff(p)),
    "diff as markdown": lambda p: diff_table.render_markdown(profile("x").diff(p)),
    "diff without folding": lambda p: diff_table.render(profile("x").diff(p), fold=False),
    "explanation": lambda p: "\n".join(p.explain(path) for path in p.modules),
    "coverage": lambda p: p.coverage.verdict(),
    "cell": html.frame,
    "evidence": lambda p: explain(p, "macs", verbosity=2),
    "baseline": lambda p: baseline.dump(take(p)),
}


@pytest.mark.parametrize("report", REPORTS)
def test_no_name_moves_a_cursor_hides_or_ends_a_line_in_any_report(report):
    plain = REPORTS[report](profile(*(f"name{i}" for i in range(len(HOSTILE)))))
    text = REPORTS[report](profile(*HOSTILE))
    foreign = {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}} - set(plain)
    assert not foreign - {"\n"}
    assert text.count("\n") == plain.count("\n") or report in {"explanation", "baseline"}
    text.encode("utf-8")


@pytest.mark.parametrize("report", ["table", "tree", "markdown", "operators", "csv", "folded", "diff", "baseline"])
def test_two_names_never_look_the_same(report):
    lines = REPORTS[report](profile(*HOSTILE)).splitlines()
    names = {re.sub(r"\d[\d._ ]*(k|M)?", "#", line) for line in lines}  # the modules differ in their numbers, too
    distinct = len({re.sub(r"\d[\d._ ]*(k|M)?", "#", printable(name)) for name in HOSTILE})
    assert len(names) >= distinct - 1


def test_a_csv_reads_back_with_every_cell_in_its_place_and_nothing_to_compute():
    found = list(csv.DictReader(io.StringIO(as_csv.render(profile(*HOSTILE)))))
    assert len({row["path"] for row in found}) == len(HOSTILE)
    assert len({row["stack"] for row in found}) == len(HOSTILE)
    for row, name in zip(found, HOSTILE, strict=False):
        assert None not in row
        assert row["macs"].isdecimal()
        for cell in row.values():
            assert not re.match("[=+@\t\r\uff1d]", cell) or re.fullmatch(r"\+1", cell)
            assert not cell.startswith("-") or re.fullmatch(r"-\d+", cell)
        assert row["path"] in {printable(name), f"'{printable(name)}"}
    assert {row["path"] for row in found} >= {"'=1+1", "+1", "-1", "'-a", "'@a", "''=a"}


def test_numbers_in_a_csv_stay_numbers():
    negative = Profile((record("a", cost=Cost(-5, 0, 0)),))
    assert next(csv.DictReader(io.StringIO(as_csv.render(negative))))["macs"] == "-5"


def test_every_line_of_a_markdown_table_has_its_cells():
    for text in (REPORTS["markdown"](profile(*HOSTILE)), REPORTS["diff as markdown"](profile(*HOSTILE))):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) > len(HOSTILE)
        cells = {len(re.findall(r"(?:\\.|[^|\\])*\|", row)) for row in rows}  # a backslash escapes, as GitHub reads it
        assert len(cells) == 1
        outside = [re.sub(r"(`+) ?.*? ?\1(?!`)", "", row) for row in rows]
        assert not any(re.search(r"(?<!\\)[<`]", row) for row in outside)


def test_folded_stacks_have_one_separator_and_one_number():
    counted = profile(*HOSTILE)
    lines = folded.render(counted, "macs").splitlines()
    assert len(lines) == len(HOSTILE)  # no two were added up
    for line in lines:
        assert re.fullmatch(r"model;[^; ]+;[^; ]+ \d+", line)
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == counted.macs


def test_a_module_that_is_called_like_a_phase_is_no_phase():
    counted = Profile((record("[backward]"), record("x", stack=("",), operator="lib.[backward]", phase="backward")))
    assert folded.render(counted, "macs").splitlines() == [
        "model;'[backward]';lib.[backward] 24",
        "model;[backward];lib.[backward] 24",
    ]


def test_a_page_has_no_other_elements_than_with_plain_names():
    class Tags(HTMLParser):
        def __init__(self, page):
            super().__init__()
            self.tags = []
            self.feed(page)

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)

    assert Tags(html.render(profile(*HOSTILE), title="<script>")).tags == Tags(html.render(profile("a"))).tags


@pytest.mark.parametrize("name", HOSTILE)
def test_a_baseline_comes_back_as_it_was_and_compares_equal(tmp_path, name):
    snapshot = take(profile(name, "other", f"{name}.{name}"))
    path = tmp_path / "baseline.txt"
    baseline.write(path, baseline.dump(snapshot))
    found = baseline.read(path)
    assert found.rows.keys() == snapshot.rows.keys()
    assert baseline.beyond(found, snapshot) == []
    assert Profile.from_json(profile(name).to_json()) == profile(name)


def test_a_baseline_of_plain_names_has_no_quotes():
    text = baseline.dump(take(profile("fc", "a b", "a: b", "a|b", "a;b", "\u00e9")))
    assert '"' not in text
    assert '\n"(model)": macs' in baseline.dump(take(profile("(model)")))


def test_the_whole_is_told_from_a_module_of_its_name():
    changed = profile("model", "fc").diff(profile("model", "fc", macs=30))
    for fold in (True, False):
        names = [line.split()[0] for line in diff_table.render(changed, fold=fold).splitlines()[2:5]]
        assert names == ["(model)", "model", "fc"]
    rows = explain(profile("(model)", macs=30), "macs", None, take(profile("(model)")), 2).splitlines()
    assert [row.partition(" ((")[0] for row in rows if "MAC ->" in row] == ["  (model)", "  '(model)'"]


def test_phases_may_have_the_names_of_columns():
    names = ["after", "change", "module", "macs before", "a|b\n"]
    one, two = (Profile(tuple(record("fc", phase=name, cost=Cost(n, 0, 0)) for name in names)) for n in (24, 30))
    assert diff_table.render(one.diff(two)).splitlines()[0].split() == (
        "module macs before after change change % after change module macs before a|b\\n".split()
    )
    header = diff_table.render_markdown(one.diff(two)).splitlines()[2]
    assert header.endswith("| change % | after | change | module | macs before | a\\|b\\\\n |")
    assert "phases: " in str(two)


def test_names_break_no_line_of_a_budgets_error():
    with pytest.raises(BudgetExceededError) as caught:
        enforce(Budget.of("1 MAC"), profile(*HOSTILE[:20]), Watcher(), who="test")
    lines = str(caught.value).split("\n")
    assert [line.partition(" ")[0] for line in lines] == ["test:", "test:", "Biggest"]
    assert list(map(visible, lines)) == lines


def test_a_model_with_such_names_is_counted_and_told_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name in HOSTILE:
                self.add_module(name, nn.Linear(3, 3))

        def forward(self, x):
            for child in self.children():
                x = child(x)
            return x

    model = Net()
    with OpCounter(model) as c, c.phase("a;b\n"):
        model(torch.ones(1, 3))
    assert {path: total.macs for path, total in c.by_module().items()} == {"": 9 * len(HOSTILE)} | dict.fromkeys(
        HOSTILE, 9
    )
    assert c.profile == Profile.from_json(c.profile.to_json())
    snapshot = take(c.profile)
    found = baseline.load(baseline.dump(snapshot), "x")
    assert found.rows.keys() == snapshot.rows.keys()
    assert baseline.beyond(found, snapshot) == []
    for render in REPORTS.values():
        text = render(c.profile)
        assert not {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - {"\n"}
    info = get_model_complexity_info(model, (3,))
    for text in (info["out_table"], info["out_arch"]):
        assert visible(text.replace("\n", "")) == text.replace("\n", "")
        assert text.count("\n") < 5 * len(HOSTILE)
    assert json.loads(speedscope.render(c.profile))["profiles"][0]["endValue"] == c.flops
