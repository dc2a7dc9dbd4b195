"""Changes between two counts, module by module."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from opcount import OpCounter, Profile
from opcount.errors import ConventionError
from opcount.reporter import diff_table as report
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


def model(prefix="blocks", blocks=4, inner=100, own="Block"):
    """Return a stem, some blocks of two layers each, and a head."""
    records = [record("stem", 10)]
    types = {"stem": "Conv2d", prefix: "Sequential"}
    for i in range(blocks):
        records += [record(f"{prefix}.{i}.attn", 40), record(f"{prefix}.{i}.mlp.fc", inner)]
        types |= {f"{prefix}.{i}": own, f"{prefix}.{i}.attn": "Attention", f"{prefix}.{i}.mlp": "Mlp"}
    return profile(*records, record("head", 7), types=types)


def rows(diff, **options):
    """Return the first column of a diff's table."""
    lines = report.render_markdown(diff, **options).splitlines()
    return [line.split("`")[1] for line in lines if line.startswith("| `")]


def test_modules_that_changed_alike_share_a_line_with_their_sum():
    diff = model().diff(model(inner=150))
    assert rows(diff) == ["model", "blocks", "blocks.0-3 x4", "blocks.0-3.mlp x4", "blocks.0-3.mlp.fc x4"]
    assert "| `blocks.0-3.mlp.fc x4` | 400 | 600 | +200 | +50.0 % |" in report.render_markdown(diff)
    assert len(rows(diff, fold=False)) == 2 + 4 * 3


def test_a_module_that_changed_otherwise_has_a_line_of_its_own():
    after = profile(
        *(record(f"blocks.{i}.fc", 150 if i != 2 else 160) for i in range(5)),
        types={"blocks": "Sequential"},
    )
    before = profile(*(record(f"blocks.{i}.fc", 100) for i in range(5)), types={"blocks": "Sequential"})
    assert [row for row in rows(before.diff(after)) if row.endswith("fc") or "fc x" in row] == [
        "blocks.0-1.fc x2", "blocks.2.fc", "blocks.3-4.fc x2",
    ]  # fmt: skip


def test_what_is_new_or_gone_stands_for_all_inside_it():
    assert rows(model().diff(model(blocks=6))) == ["model", "blocks", "blocks.4-5 x2"]
    assert rows(model(blocks=6).diff(model(blocks=5))) == ["model", "blocks", "blocks.5"]
    assert "blocks.5.mlp.fc" in rows(model(blocks=6).diff(model(blocks=5)), fold=False)


@pytest.mark.parametrize("inner", [100, 150])
def test_blocks_that_moved_are_the_same_blocks_though_they_changed_and_lie_deeper(inner):
    there, back = model(), model("encoder.layers", inner=inner)
    for before, after, old, new in (
        (there, back, "blocks", "encoder.layers"),
        (back, there, "encoder.layers", "blocks"),
    ):
        diff = before.diff(after)
        was = {change.after: change.before for change in diff.changes}
        assert was[f"{new}.3.mlp.fc"] == f"{old}.3.mlp.fc"
        assert rows(diff)[1:] == (
            []
            if inner == 100
            else [
                f"{old} -> {new}",
                f"{old}.0-3 -> {new}.0-3 x4",
                f"{old}.0-3.mlp -> {new}.0-3.mlp x4",
                f"{old}.0-3.mlp.fc -> {new}.0-3.mlp.fc x4",
            ]
        )


def test_a_module_put_before_the_others_moves_them_and_changes_none():
    before = profile(*(record(f"net.{i}", 10) for i in range(3)), types={"net": "Sequential"})
    kinds = {"net": "Sequential", "net.0": "LayerNorm"}
    after = profile(record("net.0", 1), *(record(f"net.{i}", 10) for i in range(1, 4)), types=kinds)
    diff = before.diff(after)
    assert rows(diff) == ["model", "net", "net.0"]
    assert next(c for c in diff.changes if c.after == "net.0").before is None
    assert next(c for c in diff.changes if c.after == "net.3").before == "net.0"


def test_a_module_that_wraps_another_has_its_place():
    before = profile(record("a.fc", 100), types={"a": "Block"})
    kinds = {"a": "Block", "a.fc": "Adapter"}
    after = profile(record("a.fc.base", 100), record("a.fc.down", 5), types=kinds)
    change = next(c for c in before.diff(after).changes if c.after == "a.fc")
    assert (change.before, change.values("macs")) == ("a.fc", (100, 105))


def test_phases_stand_in_the_order_of_a_training_step():
    shuffled = [record("a", 1, phase=phase) for phase in ("optimizer", "backward", "forward")]
    more = [record("a", 2, phase=phase) for phase in ("optimizer", "forward", "backward")]
    header = report.render(profile(*shuffled).diff(profile(*more))).splitlines()[0]
    assert header.split()[-3:] == ["forward", "backward", "optimizer"]


PATHS = st.lists(st.lists(st.sampled_from("abc01"), min_size=1, max_size=4).map(".".join), max_size=8, unique=True)
TYPES = st.dictionaries(st.sampled_from(["a", "a.b", "b", "b.a", "c.0", "c.1"]), st.sampled_from(["A", "B"]))


@given(PATHS, PATHS, TYPES, TYPES)
def test_each_module_of_either_count_stands_in_a_diff_once(one, other, kinds, more):
    before = profile(*(record(path, len(path)) for path in one), types=kinds)
    after = profile(*(record(path, len(path)) for path in other), types=more)
    diff = before.diff(after)
    for side, places in ((before, [c.before for c in diff.changes]), (after, [c.after for c in diff.changes])):
        found = [place for place in places if place is not None]
        assert sorted(found) == sorted({"", *side.by_module()})
    assert len(report.render(diff, fold=False).splitlines()) >= len(report.render(diff).splitlines())


def test_a_changed_module_says_which_shapes_changed():
    def count_of(groups, size):
        layers = [nn.Conv2d(8, 8, 3, padding=1, groups=groups) for _ in range(2)]
        model = nn.Sequential(nn.AdaptiveAvgPool2d(size), *layers)
        with OpCounter(model, dry_run=True) as c:
            model(torch.ones(1, 8, 16, 16))
        return c.profile

    wide = count_of(8, 4).diff(count_of(1, 4))
    assert {c.path: c.reshaped for c in wide.changed} == {
        "": (),
        **dict.fromkeys(["1", "2"], ("weight 8x1x3x3 -> 8x8x3x3",)),
    }
    assert re.search(r"^1-2 x2 .* weight 8x1x3x3 -> 8x8x3x3$", report.render(wide), re.MULTILINE)
    assert re.search(r"`1-2 x2` .*\| `weight 8x1x3x3 -> 8x8x3x3` \|$", report.render_markdown(wide), re.MULTILINE)
    small = count_of(8, 4).diff(count_of(8, 2))
    assert {c.reshaped for c in small.changed if c.path in {"1", "2"}} == {("input 1x8x4x4 -> 1x8x2x2",)}
