"""Equal modules as one on the HTML page, labels, zero rows, and the list of the biggest."""

import pytest
import torch
from selenium.webdriver.common.keys import Keys
from torch import nn

from opcount import OpCounter
from opcount.cost import Cost
from opcount.profile import Module, Profile, Record
from opcount.reporter.numbers import percent, si
from opcount.reporter.outline import outline
from tests.browser.test_html import Net, count

LAYERS = 32


class Layer(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x):
        return x + self.drop(self.mlp(self.norm(x)))


class Tower(nn.Module):
    def __init__(self, layers=LAYERS):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@pytest.fixture(scope="module")
def profile():
    return count_tower(Tower())


def count_tower(net):
    with OpCounter(net) as c:
        net(torch.ones(5, 8, requires_grad=True)).sum().backward()
    return c.profile


def test_equal_blocks_are_one_cell_that_opens(page, profile):
    shown = page(profile)
    cell = shown.cell("layers.0-31")
    assert cell.text.split("\n")[0] == "layers.0-31 x32"
    total = profile.by_module()["layers"].macs
    assert si(total) in cell.text
    cell.click()
    assert [path for path in shown.cells() if path.count(".") == 1] == [f"layers.{i}" for i in range(LAYERS)]
    assert "layers.0-31" not in shown.cells()
    shown.click("#trail .refold")
    assert "layers.0-31" in shown.cells()


def test_escape_makes_equal_blocks_one_again_before_it_zooms_out(page, profile):
    shown = page(profile)
    shown.cell("layers").click()
    shown.cell("layers.0-31").click()
    shown.press(Keys.ESCAPE)
    assert "layers.0-31" in shown.cells()
    assert shown.texts("#trail button") == ["model", "layers"]
    shown.press(Keys.ESCAPE)
    assert shown.texts("#trail button") == ["model"]


def test_a_cell_inside_of_equal_blocks_opens_them_and_the_address_keeps_it(page, profile):
    shown = page(profile)
    shown.cell("layers.0-31.mlp").click()
    assert "layers.0" in shown.cells()
    again = page(profile, f"#{shown.driver.current_url.partition('#')[2]}")
    assert "layers.0" in again.cells()


def test_the_table_folds_as_the_terminal_does(page, profile):
    shown = page(profile)
    lines = outline(profile)
    names = [name.strip() for name in shown.texts("#module-table tbody th")]
    assert names == [line.name for line in lines]
    for line, row in zip(lines, shown.table().values(), strict=True):
        assert row["macs total"] == si(line.total.macs)
        assert row["params total"] == si(line.params)
        assert row["flops total"] == si(line.total.flops)
    shown.click("#folds input")
    assert "layers.31.mlp.2" in shown.rows()
    assert "layers.31" in shown.cells()


def test_details_of_equal_modules_are_those_of_all(page, profile):
    shown = page(profile)
    shown.run("arguments[0].dispatchEvent(new MouseEvent('mouseenter'))", shown.cell("layers.0-31.mlp.0"))
    text = shown.text("#details")
    assert text.startswith("layers.0-31.mlp.0\nLinear, 32 equal modules, called once each")
    assert f"{sum(profile.by_module()[f'layers.{i}.mlp.0'].macs for i in range(LAYERS)):,}" in text


def test_blocks_that_differ_in_anything_shown_stay_apart(page):
    def block(i, macs, phase="forward", dtype="float32"):
        return Record(("", f"b.{i}"), "aten.mm.default", "matmul", phase, dtype, 1, Cost(macs, 0, 1))

    alike = block(0, 5), block(1, 5), block(4, 6), block(6, 6)
    records = (*alike, block(2, 5, dtype="float16"), block(3, 5, "backward"))
    modules = {path: Module(path, "M", 1, 1) for path in ("", "b", *(f"b.{i}" for i in (0, 1, 2, 3, 4, 6)))}
    shown = page(Profile(records, modules))
    assert shown.rows() == ["", "b", "b.0-1", "b.2", "b.3", "b.4", "b.6"]


def test_equal_changes_fold_in_a_comparison(page, profile):
    after = Tower()
    for layer in after.layers:
        layer.mlp[0], layer.mlp[2] = nn.Linear(8, 48), nn.Linear(48, 8)
    shown = page(count_tower(after), baseline=profile)
    assert "layers.0-31.mlp.0" in shown.rows()
    row = shown.row("layers.0-31.mlp.0")
    assert row["total percent"] == "+50.0 %"
    assert row["total before"] == si(sum(profile.by_module()[f"layers.{i}.mlp.0"].macs for i in range(LAYERS)))


_CUT = """
return [...document.querySelectorAll('.cell > span')].filter((span) => {
  const [inner, outer] = [span, span.parentNode].map((node) => node.getBoundingClientRect());
  const isOutside = inner.left < outer.left || inner.right > outer.right + 0.5 || inner.bottom > outer.bottom + 0.5;
  return isOutside || span.scrollWidth > Math.ceil(inner.width);
}).map((span) => span.textContent)
"""


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_labels_are_whole_or_not_there(page, profile, width):
    shown = page(profile)
    shown.resize(width)
    shown.cell("layers.0-31").click()
    assert shown.run(_CUT) == []
    assert "model" in shown.cell("").text
    assert not all(shown.texts(".cell"))  # no room for it


@pytest.mark.parametrize("fragment", ["", "#device=T4&metric=time"])
def test_a_phone_never_scrolls_sideways(page, profile, fragment):
    shown = page(profile, fragment)
    shown.resize(390)
    assert shown.run("return document.documentElement.scrollWidth") == 390


def test_modules_without_a_number_have_no_row_until_they_are_searched_for(page, profile):
    shown = page(profile)
    assert "layers.0.drop" in profile.modules
    assert not any(path.endswith("drop") for path in shown.rows())
    shown.search("drop")
    assert len(shown.rows()) == LAYERS


def test_rows_of_another_phase_are_hidden(page):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with OpCounter(net) as c:
        net[1](net[0](torch.ones(2, 4)).detach()).sum().backward()
    shown = page(c.profile)
    assert shown.rows() == ["", "0", "1"]
    shown.click('#phases button[data-phase="backward"]')
    assert shown.rows() == ["", "1"]
    operators = shown.attributes("#operator-table tbody tr", "data-operator")
    macs = c.profile.select(lambda record: record.phase == "backward").by_operator()
    assert operators == [name for name, total in macs.items() if total.macs]


def test_the_ten_biggest(page):
    profile = count(Net(tuple(range(16, 16 * 9, 16))))
    shown = page(profile)
    own = {path: profile.select(lambda record, p=path: record.path == p).macs for path in profile.modules}
    biggest = sorted(own, key=own.get, reverse=True)[:10]
    entries = shown.all("#biggest-list li")
    assert len(entries) == 10
    assert [own[entry.get_attribute("data-path")] for entry in entries] == [own[path] for path in biggest]
    for entry in entries:
        macs = own[entry.get_attribute("data-path")]
        assert f"{si(macs)}, {percent(macs, profile.macs)}" in entry.text
    path = entries[0].get_attribute("data-path")
    shown.click(f'#biggest-list li[data-path="{path}"] button')
    assert shown.texts("#trail button") == ["model", *path.split(".")]


def test_the_biggest_follow_metric_and_phase(page, profile):
    shown = page(profile)
    shown.click('.metric[data-metric="params"]')
    assert shown.text("#biggest-title") == "Biggest by own Parameters"
    first = shown.all("#biggest-list li")[0]
    assert first.get_attribute("data-path") == "layers.0-31.mlp.0"
    assert si(LAYERS * (8 * 32 + 32)) in first.text
