"""Looks of the HTML page: nothing overlaps or is cut, text stands out, and the totals need no script."""

from dataclasses import replace

import pytest

from opcount.cost import Cost
from opcount.profile import Record
from opcount.reporter.amounts import amount
from tests.browser.test_folding import Tower, count_tower
from tests.browser.test_html import Net, count, many

_OVERLAPS = """
const boxes = [...document.querySelectorAll(arguments[0])].filter((node) => node.checkVisibility())
  .map((node) => [node.id || node.textContent, node.getBoundingClientRect()]);
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
return boxes.flatMap(([a, box], i) => boxes.slice(i + 1).filter(([, other]) => meet(box, other)).map(([b]) => [a, b]));
"""
_BLOCKS = (
    "header, #subtitle, #coverage, #metrics, #controls, #rule, #trail, #chart, #details, "
    "#biggest, #roofline, #operators, #modules, footer"
)
_SPILLS = """
return [...document.querySelectorAll("main > *, section, .metric, #details *, #biggest-list *, .choices *")]
  .filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > innerWidth + 1)
  .map((node) => node.id || node.textContent);
"""
_FAINT = r"""
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const parts = (color) => {
  pen.clearRect(0, 0, 1, 1); pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
};
const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
const light = (color) => color.slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const node of document.querySelectorAll("body *:not(script, style, noscript, noscript *, option)")) {
  if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
  if (!node.checkVisibility()) continue;
  let [ground, opacity, chain] = [parts(getComputedStyle(document.body).backgroundColor), 1, []];
  for (let at = node; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
  for (const style of chain) {
    ground = over(parts(style.backgroundColor), ground);
    opacity *= Number(style.opacity);
  }
  const color = parts(node.namespaceURI.endsWith("svg") ? chain.at(-1).fill : chain.at(-1).color);
  color[3] *= opacity;
  const [a, b] = [over(color, ground), ground].map(light);
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push([node.tagName, node.textContent.trim().slice(0, 30), ratio]);
}
return found;
"""


@pytest.fixture(scope="module")
def tower():
    profile = count_tower(Tower())
    step = Record(("",), "", "elementwise", "optimizer", "float32", 1, Cost(0, 9, 0), 999, "(4x4) -> 4x4", 999)
    steps = tuple(step._replace(operator=f"aten.step{i}.default") for i in range(20))  # details longer than their box
    return replace(profile, records=profile.records + steps)


@pytest.fixture(scope="module")
def changed():
    return count(Net((16, 32, 64, 48))), count(Net((24, 16, 64)))


@pytest.mark.parametrize("width", [390, 700, 1400])
@pytest.mark.parametrize("media", ["", "print"])
def test_nothing_overlaps_or_spills(page, tower, width, media):
    shown = page(tower, "#device=T4&metric=time")
    shown.resize(width)
    shown.emulate(media)
    assert shown.run(_OVERLAPS, _BLOCKS) == []
    if media:  # paper does not scroll
        assert shown.run(_OVERLAPS, "#details li, #chart, #biggest, #roofline") == []
    assert shown.run(_OVERLAPS, "#roofline-chart .label, #roofline-chart .peak") == []
    assert shown.run(_OVERLAPS, ".cell") == []
    assert shown.run(_SPILLS) == []


def test_a_phone_shows_numbers_beside_the_names(page, tower):
    shown = page(tower)
    shown.resize(390)
    for selector in ('#module-table [data-column="macs total"]', "#operator-table thead th:nth-child(3)"):
        assert shown.run("return arguments[0].getBoundingClientRect().right", shown.one(selector)) < 390 - 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(page, tower, changed, scheme):
    before, after = changed
    for profile, baseline in ((tower, None), (after, before)):
        shown = page(profile, "#device=T4", baseline=baseline)
        shown.emulate("", scheme)
        assert shown.run(_FAINT) == []


def test_dark_and_light_by_system_and_by_choice(page, tower):
    shown = page(tower)

    def ground():
        return shown.one("body").value_of_css_property("background-color")

    light = ground()
    shown.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    dark = ground()
    shown.click("#theme")
    by_choice = ground()
    shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    shown.click("#theme")
    assert (by_choice, ground()) == (light, dark)
    assert light != dark


def test_print_is_light_and_without_controls(page, tower):
    shown = page(tower)
    shown.click("#theme")
    shown.click("#theme")
    shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert shown.one("body").value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
        assert not shown.one("#search").is_displayed()
        assert shown.one("#module-table").is_displayed()
    finally:
        shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_print_has_no_roofline_of_no_device(page, tower):
    shown = page(tower)
    shown.emulate("print")
    assert not shown.one("#roofline").is_displayed()
    again = page(tower, "#device=T4")
    assert again.one("#roofline").is_displayed()


def test_without_scripts_there_are_the_totals_and_no_dead_controls(page, tower):
    shown = page(tower)
    shown.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    shown.driver.refresh()
    assert shown.text("#headline") == amount(tower.total, tower.convention)
    assert f"total: {amount(tower.total, tower.convention)}" in shown.text("noscript pre")
    assert "convention: fvcore" in shown.text("noscript pre")
    shown.resize(390)
    assert shown.run("return document.documentElement.scrollWidth") == 390
    assert not any(button.is_displayed() for button in shown.all("button, input, select"))


def test_of_very_many_dots_the_longest_are_drawn_and_the_rest_is_counted(page):
    profile = many(100)
    moved = replace(profile, records=tuple(record._replace(bytes_read=record.cost.macs) for record in profile.records))
    shown = page(moved, "#device=T4")
    shown.click('[data-dots="modules"]')
    floors = moved.on("T4").by_module()
    longest = sorted(floors, key=lambda path: -floors[path].seconds)[:400]
    drawn = shown.attributes("#roofline-chart .dot", "data-name")
    assert {floors["" if name == "model" else name] for name in drawn} == {floors[path] for path in longest}
    assert len(drawn) == 400
    assert "shorter than the 400 longest" in shown.text("#roofline-facts")
    assert f"and {len(floors) - 400 - 5} more" in shown.text("#roofline-facts")
