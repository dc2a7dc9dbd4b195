"""Baselines: text that reviews well, and files that are never lost."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcount import Cost
from opcount.budget import baseline
from opcount.budget.baseline import STORED, compare_counts, own, take
from opcount.budget.verdict import changed_most, explain
from opcount.errors import BaselineError
from tests.budget.profiles import profile, row

NET = profile(("layers.10", 100), ("layers.2", 300), ("head", 0), params={"": 70})
TEXT = """\
# opcount baseline 1, convention fvcore, depth 2
(model): macs=400 flops=400 activations=30 params=70
head: macs=0 flops=0 activations=10 params=0
layers: macs=400 flops=400 activations=20 params=0
layers.2: macs=300 flops=300 activations=10 params=0
layers.10: macs=100 flops=100 activations=10 params=0
"""


def test_a_baseline_has_one_module_a_line_in_natural_order_and_reads_back():
    assert baseline.dump(take(NET, 2)) == TEXT
    assert baseline.dump(baseline.load(TEXT, "file")) == TEXT


def test_only_modules_near_the_root_are_kept():
    assert list(take(NET, 1).rows) == ["", "layers", "head"]
    assert list(take(NET, 0).rows) == [""]


def test_a_tolerance_is_a_share_of_the_older_count():
    now = take(profile(("layers.10", 110), ("layers.2", 300), ("head", 0), params={"": 70}))
    changed = baseline.beyond(take(NET), now)
    assert {(c.path, metric) for c, metric in changed} == {
        (path, metric) for path in ("", "layers", "layers.10") for metric in ("macs", "flops")
    }
    assert {c.path for c, _ in baseline.beyond(take(NET), now, Fraction("0.025"))} == {"layers.10"}  # 10 / 400 = 0.025
    assert baseline.beyond(take(NET), now, Fraction("0.1")) == []  # 10 / 100


def test_a_module_that_came_is_a_change_whatever_the_tolerance():
    now = take(profile(("layers.10", 100), ("layers.2", 300), ("head", 0), ("neck", 1), params={"": 70}))
    assert "neck" in {c.path for c, _ in baseline.beyond(take(NET), now, 10)}


def free(path):
    return row(path, 0)._replace(cost=Cost())


def through_a_file(counts):
    return baseline.load(baseline.dump(counts), "file")


def test_a_metric_that_files_do_not_hold_is_no_change_and_changes_no_file():
    now = take(NET)
    now = now._replace(rows={path: {**counts, "bytes": 8} for path, counts in now.rows.items()})
    stored = through_a_file(take(NET))
    assert {change.values("bytes") for change in compare_counts(stored, now)} == {(0, 0)}
    assert baseline.beyond(stored, now) == []
    assert baseline.dump(now) == baseline.dump(stored)


@pytest.mark.parametrize("stored", [lambda counts: counts, through_a_file], ids=["cache", "file"])
def test_a_module_that_was_only_renamed_is_no_change(stored):
    before = profile(("blocks.0.fc", 100), free("blocks.0.act"), ("blocks.1.fc", 300), ("head", 7))
    after = profile(("layers.0.fc", 100), free("layers.0.act"), ("layers.1.fc", 300), ("head", 7))
    assert baseline.beyond(stored(take(before)), take(after)) == []


@pytest.mark.parametrize("stored", [lambda counts: counts, through_a_file], ids=["cache", "file"])
def test_a_module_that_was_renamed_and_changed_is_named_with_both_paths(stored):
    before = stored(take(profile(("blocks.0.fc", 100), free("blocks.0.act"), ("blocks.1.fc", 300), ("head", 7))))
    after = profile(("layers.0.fc", 100), free("layers.0.act"), ("layers.1.fc", 330), ("head", 7))
    assert {c.before for c, _ in baseline.beyond(before, take(after))} == {"", "blocks", "blocks.1", "blocks.1.fc"}
    assert baseline.beyond(before, take(after), Fraction("0.1")) == []  # 30 / 300
    text = "layers.1.fc (was blocks.1.fc): 300 MAC -> 330 MAC"
    assert changed_most(before, take(after), "macs") == f"Changed most: {text}."
    assert "\n  layers.1.fc (was blocks.1.fc) (Linear)  300 MAC -> 330 MAC" in explain(after, "macs", None, before)


def test_a_module_that_is_still_there_was_not_renamed():
    before = profile(("a", 100))
    after = profile(("a", 0), ("b", 100))
    for stored in (take(before), through_a_file(take(before))):
        changed = {c.path for c, metric in baseline.beyond(stored, take(after)) if metric == "macs"}
        assert changed == {"a", "b"}


def test_modules_of_unknown_classes_in_one_place_are_not_taken_for_each_other():
    before = take(profile(("stem", 100), ("head", 7)))
    after = take(profile(("stem", 100), ("neck", 8)))
    assert {(c.before, c.after) for c, _ in baseline.beyond(before, after)} == {
        ("", ""),
        ("head", None),
        (None, "neck"),
    }


COSTS = st.dictionaries(st.lists(st.sampled_from("abc01"), min_size=1, max_size=3).map(".".join), st.integers(0, 3))


def spent(counts):
    """Return what single modules cost, whatever their names."""
    return sorted(filter(None, own({path: row["macs"] for path, row in counts.rows.items()}).values()))


@given(COSTS, COSTS)
def test_no_change_means_that_every_cost_is_there_still(old, new):
    before, after = take(profile(*old.items())), take(profile(*new.items()))
    for stored in (before, through_a_file(before)):
        assert baseline.beyond(stored, stored) == []
        if not baseline.beyond(stored, after):
            assert [stored.rows[""][m] for m in STORED] == [after.rows[""][m] for m in STORED]
            assert spent(stored) == spent(after)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected a line that opcount wrote, got ''"),
        ("hello\n", "line 1: expected a line that opcount wrote, got 'hello'"),
        (f"# opcount baseline {'9' * 5000}, convention macs, depth all", "line 1: expected a line that opcount wrote"),
        (f"# opcount baseline 1, convention macs, depth {'9' * 5000}", "line 1: expected a line that opcount wrote"),
        (
            TEXT.replace("(model)", "<<<<<<< ours\n(model)"),
            "line 2: expected a line that opcount wrote, got '<<<<<<< ours'",
        ),
        (TEXT.replace("macs=300", "macs=-300"), "line 5"),
        (TEXT.replace(" params=0", "", 1), "line 3"),
        (TEXT + TEXT.splitlines()[1], "line 7"),
        (TEXT.replace("baseline 1", "baseline 2"), "expected a baseline of format 1 to 1, got 2"),
    ],
)
def test_a_corrupt_or_newer_baseline_is_an_error_with_its_line(text, message):
    with pytest.raises(BaselineError) as caught:
        baseline.load(text, "x.txt")
    assert str(caught.value).startswith("x.txt")
    assert message in str(caught.value)
    assert "it is left as it is" in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error_and_a_missing_one_is_none(tmp_path):
    assert baseline.read(tmp_path / "absent.txt") is None
    with pytest.raises(BaselineError, match="expected a baseline, got IsADirectoryError"):
        baseline.read(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BaselineError, match="UnicodeDecodeError"):
        baseline.read(tmp_path / "binary.txt")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "x.txt"
    baseline.write(path, "old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BaselineError, match=r"x\.txt: expected a file that can be written, got OSError: No space left"):
        baseline.write(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_evidence_names_what_changed_and_not_its_parents_until_asked():
    now = profile(("layers.10", 110), ("layers.2", 300), ("head", 0), params={"": 70})
    lines = explain(now, "macs", None, take(NET)).splitlines()
    assert lines[1].split() == ["layers.10", "(Linear)", "100", "MAC", "->", "110", "MAC", "(+10.0", "%)"]
    assert len(lines) == 4  # a title, the module, its call, convention and coverage
    loud = explain(now, "macs", None, take(NET), verbosity=2)
    assert [line.split()[0] for line in loud.splitlines() if "->" in line and "aten" not in line] == [
        "(model)",
        "layers",
        "layers.10",
    ]


def test_verbosity_decides_how_many_modules_are_shown():
    wide = profile(*((f"layer{i}", 10 + i) for i in range(30)))

    def shown(verbosity):
        return sum("(Linear)" in line for line in explain(wide, "macs", verbosity=verbosity).splitlines())

    assert [shown(v) for v in (-1, 0, 1, 2)] == [3, 5, 20, 30]
    assert "and 25 more (-v)" in explain(wide, "macs")
