"""What changed between two counts, module by module."""

import pytest

from opcount import Profile
from opcount.errors import ConventionError
from opcount.reporter import diff as report
from tests.reporter.test_outline import profile, record

BEFORE = profile(record("stem", 10), record("blocks.0.fc", 100), record("blocks.1.fc", 100), record("head", 7))


def paths(changes):
    return [change.path for change in changes]


def test_nothing_changed():
    diff = BEFORE.diff(BEFORE)
    assert diff.changed == ()
    assert report.render(diff).startswith("no module's macs changed")


def test_a_change_shows_in_its_module_and_all_above():
    after = profile(record("stem", 10), record("blocks.0.fc", 100), record("blocks.1.fc", 150), record("head", 7))
    diff = BEFORE.diff(after)
    assert paths(diff.changed) == ["", "blocks", "blocks.1", "blocks.1.fc"]
    assert paths(diff.causes) == ["blocks.1.fc"]
    assert diff.total.values("macs") == (217, 267)


def test_a_renamed_module_is_the_same_module():
    after = profile(record("stem", 10), record("layers.0.fc", 100), record("layers.1.fc", 100), record("head", 7))
    diff = BEFORE.diff(after)
    assert diff.changed == ()
    assert next((c.before, c.after) for c in diff.changes if c.renamed) == ("blocks", "layers")
    assert "renamed modules: 5" in report.render(diff)


def test_a_module_renamed_and_changed_is_told_by_its_place_and_class():
    after = profile(record("stem", 10), record("blocks.0.fc", 100), record("blocks.1.linear", 120), record("head", 7))
    diff = BEFORE.diff(after)
    assert paths(diff.causes) == ["blocks.1.linear"]
    assert "blocks.1.fc -> blocks.1.linear" in report.render(diff)


def test_new_and_lost_modules():
    after = profile(
        record("stem", 10),
        record("blocks.0.fc", 100),
        record("blocks.1.fc", 100),
        record("neck", 4),
        types={"neck": "Gap"},
    )
    diff = BEFORE.diff(after)
    assert [(c.before, c.after) for c in diff.causes] == [(None, "neck"), ("head", None)]
    text = report.render(diff)
    assert "+new" not in text
    assert text.splitlines()[3].split()[-1] == "new"
    assert text.splitlines()[4].split()[-1] == "%"  # -100.0 %


def test_phases_stand_side_by_side():
    before = profile(record("a", 10), record("a", 20, phase="backward"))
    after = profile(record("a", 10), record("a", 30, phase="backward"))
    header, _, _, row, *_ = report.render(before.diff(after)).splitlines()
    assert header.split()[-2:] == ["forward", "backward"]
    assert row.split()[-3:] == ["=", "+50.0", "%"]


def test_a_diff_is_a_comment_for_a_pull_request():
    after = profile(record("stem", 20), record("blocks.0.fc", 100), record("blocks.1.fc", 100), record("head", 7))
    text = report.render_markdown(BEFORE.diff(after))
    assert text.splitlines()[0] == "**macs: 217 -> 227 (+4.6 %)**"
    assert "| `stem` | 10 | 20 | +10 | +100.0 % |" in text


def test_profiles_of_two_conventions_have_no_diff():
    with pytest.raises(ConventionError, match=r"expected two profiles of one convention, got 'fvcore' and 'full'"):
        Profile().diff(Profile().with_convention("full"))
