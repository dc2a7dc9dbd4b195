"""The choice of a convention on the HTML page, and the words that say what a number means."""

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.convention import CONVENTIONS, Convention
from opcount.cost import Cost
from opcount.profile import Module, Profile, Record
from opcount.reporter.amounts import amount
from opcount.reporter.circumstances import per_sample
from opcount.reporter.numbers import si
from tests.browser.test_html import Net, count


@pytest.fixture(scope="module")
def profile():
    return count(Net())


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_changes_every_figure_at_once(page, profile, name):
    shown = page(profile)
    shown.click('.metric[data-metric="flops"]')
    shown.click(f'#conventions button[data-convention="{name}"]')
    read = profile.with_convention(name)
    assert shown.text("#conventions [aria-checked=true]").split("\n")[0].startswith(name)
    assert CONVENTIONS[name].summary in shown.text("#rule")
    assert shown.text('.metric[data-metric="flops"]').split("\n") == [f"FLOPs ({name})", si(read.flops)]
    assert shown.text("#headline") == amount(read.total, read.convention)
    assert f"{read.flops:,}" in shown.text("#details")
    totals = read.by_module()
    for path, row in shown.table().items():
        assert row["flops total"] == si(totals[path].flops)
    operators = read.by_operator()
    for line in shown.all("#operator-table tbody tr"):
        assert si(operators[line.get_attribute("data-operator")].flops) in line.text
    whole = shown.cell("").size["width"]
    assert shown.cell("blocks.2").size["width"] == pytest.approx(whole * totals["blocks.2"].flops / read.flops, abs=1.5)


def test_the_page_begins_with_the_convention_of_the_profile(page, profile):
    shown = page(profile.with_convention("full"))
    assert shown.one("#conventions [aria-checked=true]").get_attribute("data-convention") == "full"
    assert shown.text('.metric[data-metric="flops"]').split("\n")[0] == "FLOPs (full)"


def test_a_convention_of_ones_own_is_a_choice_too(page, profile):
    ours = Convention("ours", "3 x MACs", 3, lambda _operator, _family: False)
    shown = page(profile.with_convention(ours))
    assert shown.text('.metric[data-metric="flops"]').split("\n") == ["FLOPs (ours)", si(3 * profile.macs)]
    shown.click('#conventions button[data-convention="torch"]')
    assert si(2 * profile.macs) in shown.text('.metric[data-metric="flops"]')


def test_flops_beyond_doubles_are_exact_under_each_convention(page):
    cost = Cost(2**60 + 1, 2**55 + 1, 1)
    record = Record(("",), "aten.mm.default", "matmul", "forward", "float32", 1, cost)
    shown = page(Profile((record,), {"": Module("", "Net")}))
    shown.click('#conventions button[data-convention="full"]')
    assert f"{2 * cost.macs + cost.arith:,}" in shown.text("#details")


def test_a_convention_is_kept_in_the_address_and_changed_by_a_key(page, profile):
    shown = page(profile, "#convention=torch")
    assert shown.one("#conventions [aria-checked=true]").get_attribute("data-convention") == "torch"
    shown.run("document.activeElement.blur()")
    shown.press("c")
    assert "convention=full" in shown.driver.current_url


def test_the_two_counts_of_a_comparison_are_read_alike(page, profile):
    after = count(Net((16, 64, 64)))
    shown = page(after, baseline=profile)
    shown.click('#conventions button[data-convention="full"]')
    before, now = (si(each.with_convention("full").flops) for each in (profile, after))
    tile = shown.text('.metric[data-metric="flops"]')
    assert now in tile
    assert f"was {before}" in tile


def test_each_metric_says_what_it_is(page, profile):
    shown = page(profile, roofline=profile.on("T4"))
    tiles = {tile.get_attribute("data-metric"): tile.get_attribute("title") for tile in shown.all(".metric")}
    assert tiles.keys() == {"macs", "flops", "activations", "params", "traffic", "time"}
    assert all(len(text) > 30 for text in tiles.values())
    assert "T4" in tiles["time"]
    assert shown.one('th[data-column="macs own"]').get_attribute("title")
    shown.click("#footer summary")
    meanings = shown.text("#meanings")
    assert all(text in meanings for text in tiles.values())


def test_flops_that_are_the_macs_have_no_columns_of_their_own_and_zeros_neither(page):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5))
    with OpCounter(net) as c:
        net(torch.ones(2, 4))
    shown = page(c.profile)
    columns = [found.get_attribute("data-column") for found in shown.all("#module-table th[data-column]")]
    assert "flops total" not in columns
    shown.click('#conventions button[data-convention="torch"]')
    assert shown.row("0")["flops total"] == si(2 * c.profile.by_module()["0"].macs)
    shown.click('.metric[data-metric="flops"]')
    shown.click('#conventions button[data-convention="macs"]')
    assert shown.row("0")["flops total"] == si(c.profile.by_module()["0"].macs)  # the metric itself stays


def test_the_first_lines_say_what_how_much_and_for_which_input(page, profile):
    shown = page(profile)
    top = shown.run("return arguments[0].getBoundingClientRect().bottom", shown.one("#metrics"))
    assert top < 300  # pixels: what is above is seen at once
    assert shown.text("#title") == "Net"
    assert "at 2 per MAC" in shown.text("#headline")
    assert "train, grad, float32, cpu" in shown.text("#subtitle")


def test_a_sample_of_several_and_a_loop_of_some_steps_are_named_on_top(page):
    net = nn.Linear(4, 4)
    c = OpCounter(net, every=3)
    for _ in range(7):
        with c:
            net(torch.ones(2, 4))
    shown = page(c.profile)
    assert shown.text("#headline").startswith(f"{c.profile.steps.verdict()}: ")
    (line,) = per_sample(c.profile)
    assert line in shown.text("#subtitle")


def test_formulas_are_shown_without_their_markup(page):
    text = "``out = a @ b``: see `mm`, *not* 2 * 3 * 4 <b>bold</b>\n    over two lines."
    record = Record(("",), "mylib.mm.default", "matmul", "forward", "float32", 1, Cost(7, 0, 1))
    shown = page(Profile((record,), {"": Module("", "Net")}, formulas={"mylib.mm.default": text}))
    assert shown.text("#details .formula") == "out = a @ b: see mm, not 2 * 3 * 4 <b>bold</b> over two lines."
    assert shown.texts("#details .formula code") == ["out = a @ b", "mm"]
    assert shown.texts("#details .formula em") == ["not"]
    assert shown.all("#details b") == []
    title = shown.one('tr[data-operator="mylib.mm.default"] th').get_attribute("title")
    assert title == "out = a @ b: see mm, not 2 * 3 * 4 <b>bold</b> over two lines."
