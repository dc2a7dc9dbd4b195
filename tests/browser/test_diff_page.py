"""The HTML report of two counts as its readers use it."""

from dataclasses import replace

import pytest

from opcount.reporter.numbers import si
from opcount.roofline import duration
from tests.browser.test_html import Net, count


@pytest.fixture(scope="module")
def changed():
    """Before, and after: a block grew, one shrank, one is gone and one was renamed."""
    before = Net((16, 32, 64, 48))
    after = Net((24, 16, 64))
    after.classifier = after.head
    del after.head
    after.forward = lambda x: after.classifier(after.blocks(after.embed(x)))
    return count(before), count(after)


def test_a_comparison_shows_old_and_new_by_module(page, changed):
    before, after = changed
    shown = page(after, baseline=before)
    diff = before.diff(after)
    by_path = {change.path: change for change in diff.changes}
    assert f"was {si(before.macs)}" in shown.text('.metric[data-metric="macs"]')
    for path, row in shown.table().items():
        old, new = by_path[path].values("macs")
        assert (row["total before"], row["total now"]) == (si(old), si(new))


def test_a_comparison_colours_growth_and_shrinking_apart(page, changed):
    before, after = changed
    shown = page(after, baseline=before)

    def channels(path):
        color = shown.run(
            "const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true});"
            "c.fillStyle = getComputedStyle(arguments[0]).backgroundColor; c.fillRect(0, 0, 1, 1);"
            "return [...c.getImageData(0, 0, 1, 1).data]",
            shown.cell(path),
        )
        return color[0] - color[2]

    grown, shrunk, same, gone = (channels(path) for path in ("blocks.0", "blocks.1", "blocks.2", "blocks.3"))
    assert grown > 60
    assert abs(same) < 10
    assert shrunk < -60
    assert gone < -60


def test_a_comparison_knows_the_renamed_and_the_gone(page, changed):
    before, after = changed
    shown = page(after, baseline=before)
    assert "gone" in shown.one('tr[data-path="blocks.3"]').get_attribute("class")
    assert "classifier" not in shown.rows()  # nothing but its name changed
    shown.click("#only-changed input")
    assert "classifier" in shown.rows()
    shown.click('tr[data-path="classifier"] button')
    assert "was head" in shown.text("#details")


def test_a_comparison_sorts_by_change(page, changed):
    before, after = changed
    shown = page(after, baseline=before)
    shown.click('th[data-column="total change"] button')
    macs = [change.new.macs - change.old.macs for change in before.diff(after).changed]
    changes = [row["total change"] for row in shown.table().values()]
    assert changes[0] == f"+{si(max(macs))}"
    assert changes[-1] == si(min(macs))


def test_a_comparison_by_phase(page, changed):
    before, after = changed
    shown = page(after, baseline=before)
    shown.click('#phases button[data-phase="backward"]')
    part = [side.select(lambda r: r.phase == "backward") for side in changed]
    row = shown.row("")
    assert (row["total before"], row["total now"]) == tuple(si(side.macs) for side in part)


def test_a_comparison_has_no_rows_of_zeros(page, changed):
    before, after = changed
    shown = page(after, baseline=before)
    assert not any(row["total before"] == row["total now"] == "0" for row in shown.table().values())
    shown.click('.metric[data-metric="traffic"]')
    assert "blocks.0.norm" not in shown.rows()  # its bytes are the same
    shown.click("#only-changed input")
    assert "blocks.0.norm" in shown.rows()


def test_a_comparison_on_a_device_has_both_times(page, changed):
    before, after = changed
    shown = page(after, baseline=before, roofline=after.on("L4"))
    tile = shown.text('.metric[data-metric="time"]')
    assert duration(after.on("L4").seconds) in tile
    assert f"was {duration(before.on('L4').seconds)}" in tile
    assert shown.text("#roofline-title") == "Roofline of the later count"
    assert f"Eager roofline time: {duration(after.on('L4').seconds)}" in shown.text("#roofline-facts")


def test_a_comparison_warns_of_other_inputs(page, changed):
    before, after = (
        replace(side, provenance={**side.provenance, "inputs": f"x=5x{i}"}) for i, side in enumerate(changed)
    )
    shown = page(after, baseline=before)
    assert "warning: inputs before: x=5x0; after: x=5x1" in shown.texts("#coverage .lacking")
