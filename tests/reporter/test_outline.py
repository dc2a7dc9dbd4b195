"""Reports of modules: order, depth, folding, sorting, and the formats that show them."""

import csv
import io
import json

import pytest

from opcount.cost import Cost
from opcount.profile import Module, Profile, Record
from opcount.reporter import csv as csv_reporter
from opcount.reporter import folded, markdown, operators, speedscope, table, tree
from opcount.reporter.outline import outline


def record(path, macs, operator="aten.mm.default", family="matmul", **rest):
    stack = tuple(dict.fromkeys(["", *(path[:i] for i, c in enumerate(path) if c == "."), path]))
    fields = {"phase": "forward", "dtype": "float32", "calls": 1, "cost": Cost(macs, 0, macs), **rest}
    return Record(stack, operator, family, **fields)


def profile(*records, types=()):
    paths = dict.fromkeys(path for r in records for path in r.stack)
    modules = {p: Module(p, dict(types).get(p, "Linear"), 10, 1) for p in paths}
    return Profile(records=records, modules=modules)


BLOCKS = profile(*(record(f"layers.{i}.fc", 100) for i in range(3)), record("layers.3.fc", 50), record("head", 7))


def shown(lines):
    return [(line.level, line.name, line.total.macs) for line in lines]


def test_equal_blocks_share_a_line_with_their_sum():
    assert shown(outline(BLOCKS)) == [
        (0, "model", 357),
        (1, "layers", 350),
        (2, "0-2 x3", 300),
        (3, "fc", 300),
        (2, "3", 50),
        (3, "fc", 50),
        (1, "head", 7),
    ]


def test_blocks_unfold():
    assert [line.path for line in outline(BLOCKS, fold=False, depth=2)] == [
        "", "layers", "layers.0", "layers.1", "layers.2", "layers.3", "head",
    ]  # fmt: skip


def test_blocks_of_equal_numbers_and_another_class_do_not_fold():
    mixed = profile(record("a.0", 5), record("a.1", 5), types={"a.1": "Conv1d"})
    assert [line.name for line in outline(mixed)] == ["model", "a", "0", "1"]


def test_blocks_that_are_not_consecutive_do_not_fold():
    gap = profile(record("a.0", 5), record("a.2", 5))
    assert [line.name for line in outline(gap)] == ["model", "a", "0", "2"]


def test_children_sort_by_a_number():
    lines = outline(profile(record("a", 1), record("b", 3), record("c", 2)), sort="macs")
    assert [line.name for line in lines] == ["model", "b", "c", "a"]


def test_an_unknown_number_to_sort_by_is_refused():
    with pytest.raises(ValueError, match=r"sort: expected one of macs, .*got 'size'"):
        outline(BLOCKS, sort="size")


def test_a_pattern_keeps_what_matches_and_its_parents():
    assert [line.path for line in outline(BLOCKS, modules="**.3.*")] == ["", "layers", "layers.3", "layers.3.fc"]


def test_a_tree_shows_who_calls_whom():
    first, *rest = tree.render(BLOCKS).splitlines()
    assert first.startswith("model (Linear): 357 MAC, 100.0 %")
    assert [line.partition(" (")[0] for line in rest[:6]] == [
        "|-- layers",
        "|   |-- 0-2 x3",
        "|   |   `-- fc",
        "|   `-- 3",
        "|       `-- fc",
        "`-- head",
    ]


@pytest.mark.parametrize("render", [table.render, tree.render, markdown.render, operators.render])
def test_every_report_says_its_convention_and_its_coverage(render):
    text = render(profile(record("a", 5), record("b", 0, "lib.f.default", "uncounted"))).replace("\\", "")
    assert "convention: fvcore" in text
    assert "1 operator has no formula" in text
    assert "lib.f.default (1 call)" in text


def test_operators_are_ranked_and_the_unexplained_ones_show_no_zero():
    rows = operators.render(
        profile(record("a", 5), record("a", 9, "aten.bmm.default"), record("b", 0, "lib.f.default", "uncounted"))
    ).splitlines()[2:5]
    assert [row.split()[0] for row in rows] == ["aten.bmm.default", "aten.mm.default", "lib.f.default"]
    assert rows[2].split()[4:6] == ["?", "?"]


def test_markup_in_a_name_is_no_markup():
    hostile = profile(record("a|b`c", 5))
    row = next(
        line for line in markdown.render(hostile).splitlines() if "a" in line and "5" in line and "model" not in line
    )
    assert row.startswith(r"| `` .a\|b`c `` |")


def test_csv_reads_back():
    rows = list(csv.DictReader(io.StringIO(csv_reporter.render(BLOCKS))))
    assert sum(int(row["macs"]) for row in rows) == BLOCKS.macs
    assert rows[0]["stack"] == ";layers;layers.0;layers.0.fc"


def test_folded_stacks_sum_to_the_total_and_keep_their_separators():
    odd = profile(record("a;b c", 5), record("a;b c", 3, phase="backward"))
    assert folded.render(odd, "macs") == "model;a:b_c;aten.mm.default 5\nmodel;a:b_c;[backward];aten.mm.default 3\n"
    numbers = [int(line.rpartition(" ")[2]) for line in folded.render(BLOCKS).splitlines()]
    assert sum(numbers) == BLOCKS.flops


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"metric: expected one of flops.*got 'seconds'"):
        folded.render(BLOCKS, "seconds")


def test_speedscope_weights_sum_to_the_total():
    data = json.loads(speedscope.render(BLOCKS, name="blocks"))
    view = data["profiles"][0]
    assert data["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert sum(view["weights"]) == view["endValue"] == BLOCKS.flops
    names = [data["shared"]["frames"][i]["name"] for i in view["samples"][0]]
    assert names == ["model", "layers", "0", "fc", "aten.mm.default"]


def test_a_data_frame_has_a_row_for_each_record():
    pytest.importorskip("pandas")
    frame = BLOCKS.to_dataframe()
    assert frame.groupby("path").macs.sum()["layers.0.fc"] == 100
    assert list(Profile().to_dataframe().columns) == list(frame.columns)
