"""Baselines: text that reviews well, and files that are never lost."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import pytest

from opcount.budget import baseline
from opcount.budget.evidence import explain
from opcount.budget.snapshot import take
from opcount.errors import BaselineError
from tests.budget.profiles import profile

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
    assert baseline.load(TEXT, "file") == take(NET, 2)


def test_only_modules_near_the_root_are_kept():
    assert list(take(NET, 1).modules) == ["", "layers", "head"]
    assert list(take(NET, 0).modules) == [""]


def test_a_tolerance_is_a_share_of_the_older_count():
    now = take(profile(("layers.10", 110), ("layers.2", 300), ("head", 0), params={"": 70}))
    changed = baseline.beyond(take(NET), now)
    assert {(c.path, c.metric) for c in changed} == {
        (path, metric) for path in ("", "layers", "layers.10") for metric in ("macs", "flops")
    }
    assert {c.path for c in baseline.beyond(take(NET), now, Fraction("0.025"))} == {"layers.10"}  # 10 / 400 = 0.025
    assert baseline.beyond(take(NET), now, Fraction("0.1")) == []  # 10 / 100


def test_a_module_that_came_is_a_change_whatever_the_tolerance():
    now = take(profile(("layers.10", 100), ("layers.2", 300), ("head", 0), ("neck", 1), params={"": 70}))
    assert "neck" in {c.path for c in baseline.beyond(take(NET), now, 10)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected a line that opcount wrote, got ''"),
        ("hello\n", "line 1: expected a line that opcount wrote, got 'hello'"),
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

    assert [shown(v) for v in (-1, 0, 1, 2)] == [0, 5, 20, 30]
    assert "and 25 more (-v)" in explain(wide, "macs")
