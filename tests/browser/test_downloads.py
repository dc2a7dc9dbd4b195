"""Files that the HTML page saves: pictures of its charts, and its table."""

import csv
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from opcount.reporter.numbers import si
from tests.browser.conftest import Page
from tests.browser.test_folding import Tower, count_tower
from tests.browser.test_html import HOSTILE, Net, count, many

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def profile():
    return count(Net())


def drawing(file):
    return ET.parse(file)  # noqa: S314  (a browser of ours wrote it)


def texts(file):
    return [node.text for node in drawing(file).iter(f"{SVG}text")]


def rows(file):
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_chart_as_a_drawing(page, profile):
    shown = page(profile, title="a report")
    file = shown.download("#svg")
    assert file.name == "a-report.svg"
    words = texts(file)
    assert words[0] == "a report"
    assert any("MACs" in text and "at 2 per MAC" in text for text in words)
    assert set(shown.texts(".cell .name")) <= set(words)
    cells = drawing(file).findall(f"{SVG}g/{SVG}rect")
    assert len(cells) == len(shown.all(".cell"))
    assert all(rect.get("fill").startswith("#") for rect in cells)


_SPILL = """
document.body.insertAdjacentHTML("beforeend", arguments[0]);
const box = document.body.lastElementChild;
const { right } = box.getBoundingClientRect();
const spills = [...box.querySelectorAll("text")].map((text) => text.getBoundingClientRect().right - right);
box.remove();
return Math.max(...spills);
"""


def test_what_is_written_above_a_drawing_is_as_wide_as_it_and_names_the_colours(page, profile):
    told = replace(profile, provenance={**profile.provenance, "command": "opcount count " + "--kwargs a=1 " * 40})
    shown = page(told, roofline=told.on("T4"))
    chart, roofline = (shown.download(button) for button in ("#svg", "#roofline-svg"))
    for file in (chart, roofline):
        right = shown.run(_SPILL, file.read_text(encoding="utf-8"))
        assert right <= 0
        assert " ".join(texts(file)).count("--kwargs a=1") == 40
    assert any("Roofline on T4" in text for text in texts(roofline))
    assert {"Linear", "LayerNorm"} <= set(texts(chart))


def test_the_chart_as_a_picture(page, profile):
    shown = page(profile)
    file = shown.download("#png")
    assert file.suffix == ".png"
    with Image.open(file) as image:
        assert image.width == 2 * (shown.one("#icicle").size["width"] + 32)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_roofline_as_a_file(page, profile, suffix):
    shown = page(profile, roofline=profile.on("T4"))
    file = shown.download(f"#roofline-{suffix}")
    assert file.name == f"Net.roofline.{suffix}"
    if suffix == "png":
        with Image.open(file) as image:
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    else:
        circles = drawing(file).findall(f".//{SVG}circle")
        assert len(circles) == len(shown.all(".dot"))
        assert all(circle.get("fill").startswith("#") for circle in circles)


def test_the_table_as_csv_has_every_row_and_all_digits(page, profile):
    shown = page(profile)
    table = rows(shown.download("#csv"))
    totals = profile.by_module()
    assert [row["module"] for row in table] == shown.rows()
    for row in table:
        path = row["module"]
        assert int(row["MACs, total"]) == totals[path].macs
        assert int(row["FLOPs (fvcore), total"]) == totals[path].flops
        assert int(row["Parameters, total"]) == profile.modules[path].params
        assert int(row["MACs, own"]) == profile.select(lambda record, p=path: record.path == p).macs


def test_columns_of_the_csv_name_units_and_the_device(page, profile):
    shown = page(profile, roofline=profile.on("T4"))
    first = rows(shown.download("#csv"))[0]
    assert int(first["Traffic (B), total"]) == profile.total.traffic
    assert float(first["Time floor on T4 (s), total"]) == pytest.approx(profile.on("T4").seconds)


def test_the_csv_is_as_long_as_the_count_and_says_how_many_are_equal(page):
    assert len(rows(page(many(300)).download("#csv"))) == 2 + 6 * 300
    table = rows(page(count_tower(Tower())).download("#csv"))
    (row,) = [row for row in table if row["module"] == "layers.0-31"]
    assert row["modules"] == "32"


def test_numbers_beyond_doubles_are_exact_in_the_csv(page, profile):
    many_macs = profile.records[0]._replace(cost=profile.records[0].cost._replace(macs=2**60 + 1))
    shown = page(type(profile)((many_macs,), profile.modules))
    assert int(rows(shown.download("#csv"))[0]["MACs, total"]) == 2**60 + 1


def test_a_comparison_as_csv(page, profile):
    after = count(Net((16, 64, 64)))
    shown = page(after, baseline=profile)
    first = rows(shown.download("#csv"))[0]
    assert int(first["MACs, total, before"]) == profile.macs
    assert int(first["MACs, total, now"]) == after.macs
    assert int(first["MACs, total, change"]) == after.macs - profile.macs


def test_names_are_text_in_every_file(page, profile):
    names = [*HOSTILE, "=1+1", 'a,"b"', "@x"]
    modules = {"": profile.modules[""], **{name: profile.modules["embed"]._replace(path=name) for name in names}}
    records = tuple(profile.records[0]._replace(stack=("", name)) for name in names)
    shown = page(type(profile)(records, modules), title="<i>")
    cells = [row["module"] for row in rows(shown.download("#csv"))]
    assert cells == ["", *HOSTILE, "'=1+1", 'a,"b"', "'@x"]
    assert texts(shown.download("#svg"))[0] == "<i>"
    assert si(profile.records[0].cost.macs) in shown.text("#module-table")


def test_a_notebook_cell_saves_its_table(page, chromium, profile, tmp_path):
    page(profile)
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html>{profile._repr_html_()}", encoding="utf-8")
    chromium.get(file.as_uri())
    chromium.switch_to.frame(0)
    try:
        table = rows(Page(chromium, tmp_path / "downloads").download("#csv"))
        assert int(table[0]["MACs, total"]) == profile.macs
    finally:
        chromium.switch_to.default_content()
