"""The HTML report as its readers use it."""

from itertools import pairwise

import pytest
import torch
from selenium.webdriver.common.keys import Keys
from torch import nn

from opcount import Device, OpCounter, Profile
from opcount.convention import Convention
from opcount.cost import Cost
from opcount.profile import Module, Record
from opcount.reporter.numbers import percent, si
from opcount.selectors import ModulePattern
from tests.shims import install

HOSTILE = ("<script>alert('owned')</script>", "</script><img src=x onerror=alert(1)>", "a\u2028{{data}}&amp;'\"")


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, width)
        self.down = nn.Linear(width, 8)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).relu())


class Net(nn.Module):
    def __init__(self, widths=(16, 32, 64)):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.blocks = nn.Sequential(*map(Block, widths))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)))


def count(net):
    with OpCounter(net) as c:
        net(torch.ones(5, 4)).sum().backward()
    return c.profile


@pytest.fixture(scope="module")
def profile():
    return count(Net())


@pytest.fixture(scope="module")
def wide():
    """Six thousand modules."""
    return many(1000)


def many(blocks):
    modules = {"": Module("", "Net", 6 * blocks, 1), "body": Module("body", "Sequential", 6 * blocks, 1)}
    records = []
    for i in range(blocks):
        modules[f"body.{i}"] = Module(f"body.{i}", "Block", 6, 1)
        for j, leaf in enumerate(("q", "k", "v", "o", "mlp")):
            path = f"body.{i}.{leaf}"
            modules[path] = Module(path, "Linear", j + 1, 1)
            records.append(
                Record(("", path), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(10 * (i + j + 1), 0, 1))
            )
    return Profile(tuple(records), modules)


def test_the_totals_are_those_of_the_profile(page, profile):
    shown = page(profile)
    values = {tile.get_attribute("data-metric"): tile.text.split("\n")[1] for tile in shown.all(".metric")}
    assert values == {
        "macs": si(profile.macs),
        "flops": si(profile.flops),
        "activations": si(profile.activations),
        "traffic": si(profile.total.traffic, "B"),
        "params": si(profile.params),
    }
    assert shown.text("#coverage") == profile.coverage.verdict()
    assert "fvcore" in shown.text("#rule")


def test_cells_are_as_wide_as_their_share(page, profile):
    shown = page(profile)
    totals = profile.by_module()
    whole = shown.cell("").size["width"]
    for path in ("embed", "blocks", "blocks.2", "blocks.2.up", "head"):
        assert shown.cell(path).size["width"] == pytest.approx(whole * totals[path].macs / profile.macs, abs=1.5)


def test_a_click_zooms_in_and_the_trail_leads_back(page, profile):
    shown = page(profile)
    whole = shown.cell("").size["width"]
    shown.cell("blocks.2").click()
    assert shown.cell("blocks.2").size["width"] == pytest.approx(whole, abs=1)
    assert sorted(shown.cells()) == ["blocks.2", "blocks.2.down", "blocks.2.up"]
    assert shown.texts("#trail button") == ["model", "blocks", "2"]
    assert shown.rows() == ["blocks.2", "blocks.2.norm", "blocks.2.up", "blocks.2.down"]
    shown.all("#trail button")[0].click()
    assert "embed" in shown.cells()


def test_back_zooms_out_and_the_address_keeps_the_view(page, profile):
    shown = page(profile)
    shown.cell("blocks.1").click()
    assert "zoom=blocks.1" in shown.driver.current_url
    shown.driver.back()
    assert "embed" in shown.cells()
    again = page(profile, "#zoom=blocks.1&metric=params&search=up")
    assert again.texts("#trail button") == ["model", "blocks", "1"]
    assert again.one(".metric[aria-checked=true]").get_attribute("data-metric") == "params"
    assert again.rows() == ["blocks.1.up"]


def test_the_metric_changes_widths_and_numbers(page, profile):
    shown = page(profile)
    before = shown.cell("blocks.2").size["width"]
    shown.click('.metric[data-metric="activations"]')
    totals = profile.by_module()
    whole = shown.cell("").size["width"]
    width = shown.cell("blocks.2").size["width"]
    assert width == pytest.approx(whole * totals["blocks.2"].activations / profile.activations, abs=1.5)
    assert abs(width - before) > 20
    shown.click('.metric[data-metric="params"]')
    assert f"{profile.params:,}" in shown.text("#details")


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_the_phase_changes_every_number(page, profile, phase):
    shown = page(profile)
    shown.click(f'#phases button[data-phase="{phase}"]')
    part = profile.select(lambda r: r.phase == phase)
    assert si(part.macs) in shown.text('.metric[data-metric="macs"]')
    totals = part.by_module()
    row = shown.row("blocks.2")
    assert (row["macs total"], row["flops total"]) == (si(totals["blocks.2"].macs), si(totals["blocks.2"].flops))
    operators = part.by_operator()
    for line in shown.all("#operator-table tbody tr"):
        name = line.get_attribute("data-operator")
        assert si(operators[name].macs) in line.text


def test_parameters_have_no_phase(page, profile):
    shown = page(profile)
    shown.click('.metric[data-metric="params"]')
    assert not any(button.is_enabled() for button in shown.all("#phases button"))


def test_own_and_total_agree_with_the_profile_for_every_module(page, profile):
    shown = page(profile)
    totals = profile.by_module()
    own = {path: profile.select(lambda r, p=path: r.path == p) for path in totals}
    rows = shown.table()
    for path, total in totals.items():
        row = rows[path]
        assert row["macs total"] == si(total.macs)
        assert row["macs own"] == si(own[path].macs)
        assert row["flops own"] == si(own[path].flops)
        assert row["activations total"] == si(total.activations)
        assert row["params total"] == si(profile.modules[path].params)


def test_search_dims_the_rest_and_sums_up_what_matches(page, profile):
    shown = page(profile)
    shown.search("UP")
    matching = [path for path in profile.modules if "up" in path]
    assert shown.rows() == matching
    share = sum(profile.by_module()[path].macs for path in matching)
    assert shown.text("#found") == f"3 modules, {percent(share, profile.macs)}"
    assert "dimmed" in shown.cell("head").get_attribute("class")
    assert "matching" in shown.cell("blocks.2.up").get_attribute("class")
    shown.press(Keys.ESCAPE)
    assert shown.text("#found") == ""
    assert len(shown.rows()) == len(profile.modules)


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("**.down", ["blocks.0.down", "blocks.1.down", "blocks.2.down"]),
        ("blocks.?", ["blocks.0", "blocks.1", "blocks.2"]),
        ("*.down", []),
        ("blocks.[1-2]", ["blocks.1", "blocks.2"]),
        ("blocks.[!1-2]", ["blocks.0"]),
        ("blocks.[2-1]", []),
        ("blocks.*", ["blocks.0", "blocks.1", "blocks.2"]),
        ("layernorm", ["blocks.0.norm", "blocks.1.norm", "blocks.2.norm"]),
        ("(", []),
    ],
)
def test_search_by_pattern_and_by_type(page, profile, query, paths):
    shown = page(profile)
    shown.search(query)
    assert shown.rows() == paths
    assert not set("*[") & set(query) or sorted(ModulePattern(query).find(profile)) == paths  # as for --modules


def test_nested_matches_are_summed_once(page, profile):
    shown = page(profile)
    shown.search("blocks")
    assert shown.text("#found").endswith(percent(profile.by_module()["blocks"].macs, profile.macs))


def test_the_legend_searches_for_a_type(page, profile):
    shown = page(profile)
    next(button for button in shown.all("#legend button") if button.text == "Linear").click()
    assert set(shown.rows()) == {path for path, module in profile.modules.items() if module.type == "Linear"}


def test_columns_sort_both_ways_and_back(page, profile):
    shown = page(profile)
    order = shown.rows()
    totals = profile.by_module()
    shown.click('th[data-column="macs total"] button')
    assert all(totals[a].macs >= totals[b].macs for a, b in pairwise(shown.rows()))
    assert shown.one('th[data-column="macs total"]').get_attribute("aria-sort") == "descending"
    shown.click('th[data-column="macs total"] button')
    assert all(totals[a].macs <= totals[b].macs for a, b in pairwise(shown.rows()))
    shown.click('th[data-column="macs total"] button')
    assert shown.rows() == order
    shown.click('th[data-column="path"] button')
    assert shown.rows() == sorted(order)


def test_the_keyboard_reaches_everything(page, profile):
    shown = page(profile)
    shown.run("document.querySelector('.cell[data-path=\"\"]').focus()")
    shown.press(Keys.ARROW_DOWN)
    shown.press(Keys.ARROW_RIGHT)
    assert shown.text("#details h2") == "blocks"
    shown.press(Keys.ENTER)
    assert shown.texts("#trail button") == ["model", "blocks"]
    shown.press(Keys.ESCAPE)
    assert shown.texts("#trail button") == ["model"]
    shown.press("4")
    assert shown.one(".metric[aria-checked=true]").get_attribute("data-metric") == "params"
    shown.press("1")
    shown.press("p")
    assert shown.text("#phases [aria-checked=true]") == "forward"
    shown.press("/")
    shown.press("p4")
    assert shown.one("#query").get_attribute("value") == "p4"


def test_arrows_move_a_choice(page, profile):
    shown = page(profile)
    shown.click('.metric[data-metric="macs"]')
    shown.press(Keys.ARROW_RIGHT)
    shown.press(Keys.ARROW_RIGHT)
    assert shown.one(".metric[aria-checked=true]").get_attribute("data-metric") == "activations"


def test_help_opens_and_closes(page, profile):
    shown = page(profile)
    shown.click("#help")
    assert "Keys" in shown.text("#keys")
    shown.press(Keys.ESCAPE)
    assert not shown.one("#keys").is_displayed()


def test_details_explain_a_module(page, profile):
    shown = page(profile, "#zoom=blocks.2.up")
    text = shown.text("#details")
    total = profile.by_module()["blocks.2.up"]
    assert f"{total.macs:,}" in text
    assert "aten.addmm.default" in text
    assert "(64, 5x8, 8x64) -> 5x64" in text
    assert profile.formulas["aten.addmm.default"].splitlines()[0].replace("`", "") in text.replace("`", "")


def test_characters_that_do_not_show_stand_as_escapes(page):
    net = nn.Sequential()
    for name in ("\u202egnp", "a\x1b[31m", "a\nb", "\u200b"):
        net.add_module(name, nn.Linear(4, 4))
    shown = page(count(net), title="a\u202eb")
    assert shown.driver.title == "a\\u202eb"
    assert shown.cells() == ["", "\\u202egnp", "a\\u001b[31m", "a\\u000ab", "\\u200b"]


def test_names_are_text_whatever_they_say(page):
    net = nn.Sequential()
    for name in HOSTILE:
        net.add_module(name, nn.Linear(4, 4))
    shown = page(count(net), title="<i>title</i>")
    assert shown.driver.title == "<i>title</i>"
    assert shown.cells() == ["", *HOSTILE]
    for name in HOSTILE[:2]:
        assert name in shown.text("#icicle")
        assert name in shown.text("#module-table")
    assert shown.all("img") == []


def test_no_text_of_a_count_is_markup(page):
    evil = "<img src=x onerror=alert(1)>``<b>``*<i>*</script>"
    record = Record(("", "a"), f"{evil}.op", evil, evil, evil, 1, Cost(7, 3, 1), 5, evil, 9)
    modules = {"": Module("", evil, 1, 1, (evil,)), "a": Module("a", evil, 1, 1, (evil,))}
    facts = {"inputs": evil, "model": evil, "command": evil, evil: evil}
    ours = Convention(evil, evil, 1, lambda _operator, _family: True)
    profile = Profile((record,), modules, ours, facts, {evil: 1}, {record.operator: evil})
    device = Device(name=evil, peaks={"float32": 1e12}, bandwidth=1e11, source=evil)
    for baseline in (None, Profile((), modules, ours, {**facts, "inputs": "other"})):
        shown = page(profile, baseline=baseline, title=evil, roofline=profile.on(device))
        for metric in shown.attributes(".metric", "data-metric"):
            shown.click(f'.metric[data-metric="{metric}"]')
        shown.click('[data-dots="modules"]')
        shown.run("document.querySelector('.cell[data-path=a]').click()")
        shown.search("<img")
        assert shown.all("img, b, i:not([style], [class])") == []
        assert shown.texts("script") == ["", ""]
        assert evil in shown.text("#no-peak")


def test_what_nothing_explains_stands_on_top(page):
    record = Record(("",), "mylib.mystery.default", "uncounted", "forward", "float32", 3, Cost(), 12)
    profile = Profile((record,), {"": Module("", "Net")})
    shown = page(profile)
    assert shown.text("#coverage .lacking") == profile.coverage.verdict()
    assert "?" in shown.text('tr[data-operator="mylib.mystery.default"]')
    assert shown.text("#empty") == "No MACs."


def test_an_empty_count_is_a_page_too(page):
    shown = page(Profile())
    assert shown.text("#empty") == "No MACs."
    assert shown.rows() == [""]


def test_numbers_beyond_doubles_stay_exact(page):
    macs = 2**60 + 1
    record = Record(("", "a"), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(macs, 0, 1))
    profile = Profile((record,), {"": Module("", "Net"), "a": Module("a", "Linear")})
    shown = page(profile)
    assert f"{macs:,}" in shown.text("#details")
    assert si(macs) in shown.text('.metric[data-metric="macs"]')


@pytest.mark.parametrize(
    "count", [999, 1000, 999_499, 999_500, 999_999_600, 1_000_500, 1_001_500, 1_002_500, 2**53, 10**26]
)
def test_numbers_read_as_in_the_other_reports(page, count):
    record = Record(("",), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(count, 0, 1))
    shown = page(Profile((record,), {"": Module("", "Net")}))
    assert si(count) in shown.text('.metric[data-metric="macs"]').split("\n")


def test_six_thousand_modules(page, wide):
    shown = page(wide)
    assert len(wide.modules) > 6000
    assert len(shown.rows()) == 200
    assert 0 < len(shown.all(".cell")) < 3000
    shown.search("body.777.*")
    assert shown.rows() == [f"body.777.{leaf}" for leaf in ("q", "k", "v", "o", "mlp")]
    assert shown.all(".rest.matching")  # too thin for a cell of its own, and found all the same
    assert shown.all(".rest.dimmed")
    shown.click('tr[data-path="body.777.v"] button')
    shown.search("")
    assert shown.texts("#trail button") == ["model", "body", "777", "v"]
    shown.all("#trail button")[2].click()
    assert [path for path in shown.cells() if path.startswith("body.777.")]
    shown.all("#trail button")[0].click()
    shown.click("#more")
    assert len(shown.rows()) == len(wide.modules)


def test_a_notebook_cell_holds_the_page(chromium, profile, tmp_path):
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html>{profile._repr_html_()}", encoding="utf-8")
    chromium.get(file.as_uri())
    chromium.switch_to.frame(0)
    try:
        assert si(profile.macs) in chromium.find_element("css selector", ".metric").text
        chromium.find_element("css selector", '.cell[data-path="blocks"]').click()
        assert "blocks" in chromium.find_element("css selector", "#trail").text
    finally:
        chromium.switch_to.default_content()


def test_a_real_model(page):
    install()
    from torchvision.models import vit_b_16  # noqa: PLC0415  (after the shim)

    with torch.device("meta"):
        model = vit_b_16()
    with OpCounter(model, dry_run=True) as c:
        model(torch.empty(1, 3, 224, 224, device="meta")).sum().backward()
    shown = page(c.profile)
    total = c.profile.by_module()["encoder.layers.encoder_layer_7.self_attention"]
    assert shown.row("encoder.layers.encoder_layer_7.self_attention")["macs total"] == si(total.macs)
    shown.search("self_attention")
    assert shown.text("#found").startswith("24 modules")
