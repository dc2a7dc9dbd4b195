"""Counts of tests in files and caches: what is read is what was written, or an error that says where it is wrong."""

import copy
import json

import pytest

from opcount.budget import baseline
from opcount.budget.baseline import take
from opcount.convention import Convention
from opcount.errors import BaselineError
from opcount.pytest_plugin.stored_counts import StoredCount, dump, read
from tests.test_serialize import PLAIN, WRONG, damaged

MODULES = take(PLAIN)
COUNTS = [
    StoredCount(test, name, ["at most 4 MAC"], ["x.y"], MODULES)
    for test, name in (("t.py::test_a", ""), ("t.py::test_b", "second"))
]


@pytest.fixture
def stored(tmp_path):
    def back(text):
        path = tmp_path / "counts.json"
        path.write_text(text)
        return list(read(path, "--flops-compare").values())

    return back


def test_counts_come_back_as_they_were(stored):
    assert dump(stored(dump(COUNTS))) == dump(COUNTS)


def test_a_wrong_value_anywhere_is_refused_or_means_nothing(stored):
    data, refused = json.loads(dump(COUNTS)), 0
    for path, wrong, at, key in damaged(data, WRONG):
        before, at[key] = at[key], copy.deepcopy(wrong)
        text = json.dumps(data)
        at[key] = before
        try:
            found = stored(text)
        except BaselineError as error:
            refused += 1
            assert "counts.json" in str(error)  # noqa: PT017
            continue
        for one in found:
            counts = [count for row in one.modules.rows.values() for count in row.values()]
            assert all(type(count) is int and count >= 0 for count in counts), (path, wrong)
            assert all(type(word) is str for word in (one.test, one.name, *one.limits, *one.uncounted))
    assert refused > 500


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("24", "-24", r"expected a whole number .* at tests\[0\]\.modules\[''\]\[0\], got -24"),
        ("24", "NaN", r"got nan of type float"),
        ('"": [', '"other": [', r"expected a row of the model, '' at tests\[0\]\.modules"),
        ('"limits": [', '"limts": [', r"expected limits among the keys at tests\[0\]"),
    ],
)
def test_a_damage_is_named(stored, old, new, message):
    text = dump(COUNTS)
    at = text.index('"modules"') if old == "24" else 0
    with pytest.raises(BaselineError, match=message):
        stored(text[:at] + text[at:].replace(old, new, 1))


def test_a_file_that_is_nested_without_end_is_refused(stored):
    with pytest.raises(BaselineError, match="nested too deeply"):
        stored("[" * 100_000)


def test_a_baseline_of_an_own_convention_comes_back(tmp_path):
    own = Convention("house rules,\n second", "", 3, lambda *_: True)
    snapshot = take(PLAIN.with_convention(own))
    baseline.write(tmp_path / "x.txt", baseline.dump(snapshot))
    found = baseline.read(tmp_path / "x.txt")
    assert found.convention == "house rules,\\n second"
    assert baseline.beyond(found, snapshot) == []
