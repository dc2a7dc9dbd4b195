"""The roofline on the HTML page: the device, its roof, a dot for each operator or module, and the time floors."""

import math

import pytest
import torch
from torch import nn

from opcount import Device, OpCounter
from opcount.cost import Cost
from opcount.devices import known_devices
from opcount.profile import Module, Profile, Record
from opcount.records import Stage, stage_facts
from opcount.reporter.numbers import percent
from opcount.roofline import duration
from tests.browser.test_html import HOSTILE, Net, count

_DOTS = "return [...document.querySelectorAll('#roofline-chart .dot')].map((dot) => [dot.dataset.name, dot])"
_OPTIONS = "return [...arguments[0].options].map((option) => option.text)"


@pytest.fixture(scope="module")
def profile():
    return count(Net())


def choose(shown, device):
    shown.run(
        "const [box, name] = arguments; box.value = [...box.options].find((each) => each.text === name).value;"
        "box.dispatchEvent(new Event('change'))",
        shown.one("#device"),
        device,
    )


def dots(shown):
    return dict(shown.run(_DOTS))


def test_nothing_is_said_of_a_device_that_nobody_chose(page, profile):
    shown = page(profile)
    assert shown.run(_OPTIONS, shown.one("#device"))[1:] == [each.name for each in known_devices()]
    assert not shown.one("#floors").is_displayed()
    assert shown.all('.metric[data-metric="time"]') == []


@pytest.mark.parametrize("device", ["H100-SXM5-80GB", "T4"])
def test_a_chosen_device_gives_every_module_its_time_floor(page, profile, device):
    shown = page(profile)
    choose(shown, device)
    roofline = profile.on(device)
    tile = shown.text('.metric[data-metric="time"]')
    assert tile.split("\n") == [f"Time floor on {device}", duration(roofline.seconds)]
    shown.click('.metric[data-metric="time"]')
    floors = roofline.by_module()
    for path, row in shown.table().items():
        assert row["time total"] == duration(floors[path].seconds)
    whole = shown.cell("").size["width"]
    assert shown.cell("blocks.2").size["width"] == pytest.approx(whole * roofline.share(floors["blocks.2"]), abs=1.5)
    text = shown.text("#roofline-facts")
    part = percent(roofline.total.compute_bound, roofline.seconds)
    assert f"Eager roofline time: {duration(roofline.seconds)} ({part} bound by compute)" in text
    assert f"speed of light: {duration(roofline.speed_of_light)}" in text


def test_a_count_on_a_device_shows_it_first(page, profile):
    shown = page(profile, roofline=profile.on("L4"))
    assert shown.text("#device option:checked") == "L4"
    assert dots(shown)


def test_a_device_of_ones_own_is_offered_beside_the_known_ones(page, profile):
    ours = Device(name="<b>ours</b>", peaks={"float32": 1e12}, bandwidth=1e11, source="</script>")
    shown = page(profile, roofline=profile.on(ours))
    assert shown.text("#device option:checked") == "<b>ours</b>"
    assert "</script>" in shown.text("#roofline-facts")
    assert duration(profile.on(ours).seconds) in shown.text('.metric[data-metric="time"]')


def test_each_operator_that_multiplies_has_a_dot_under_the_roof(page, profile):
    device = Device.find("T4")
    shown = page(profile, roofline=profile.on(device))
    expected = {}
    for record in profile.records:
        if record.cost.macs:
            macs, traffic, seconds = expected.get((record.operator, record.dtype), (0, 0, 0.0))
            expected[record.operator, record.dtype] = (
                macs + record.cost.macs,
                traffic + record.bytes_read + record.bytes_written,
                seconds + profile.on(device).floor(record).seconds,
            )
    found = dots(shown)
    assert found.keys() == {f"{operator} in {dtype}" for operator, dtype in expected}
    for (operator, dtype), (macs, traffic, seconds) in expected.items():
        dot = found[f"{operator} in {dtype}"]
        intensity, rate = (float(dot.get_attribute(name)) for name in ("data-intensity", "data-rate"))
        assert intensity == pytest.approx(2 * macs / traffic)
        assert rate == pytest.approx(2 * macs / seconds)
        assert rate <= min(device.peak(dtype), intensity * device.bandwidth) * 1.000001
        assert dot.get_attribute("aria-label").split("\n")[0] == f"{operator} in {dtype}"
    missing = {record.operator for record in profile.records if not record.cost.macs and record.bytes_read}
    assert "without multiply-accumulates" in shown.text("#roofline-facts")
    assert any(name in shown.text("#roofline-facts") for name in missing)


def test_both_axes_are_logarithmic_and_the_ridge_stands_where_the_roofs_meet(page, profile):
    device = Device.find("T4")
    shown = page(profile, roofline=profile.on(device))
    ridge = shown.one("#roofline-chart .ridge")
    assert float(ridge.get_attribute("data-ridge")) == pytest.approx(device.peak("float32") / device.bandwidth)
    shown.click('[data-dots="modules"]')
    marks = [
        (math.log(float(amount)), float(at))
        for data, place in (("data-intensity", "cx"), ("data-rate", "cy"))
        for amount, at in zip(*(shown.attributes("#roofline-chart .dot", name) for name in (data, place)), strict=True)
    ]
    half = len(marks) // 2
    for axis in (marks[:half], marks[half:]):
        (low, at), (high, to) = min(axis), max(axis)
        assert high > low
        for log, place in axis:
            assert place == pytest.approx(at + (to - at) * (log - low) / (high - low), abs=0.01)


def test_each_module_that_multiplies_has_a_dot_that_leads_to_it(page, profile):
    shown = page(profile, roofline=profile.on("T4"))
    shown.click('[data-dots="modules"]')
    multiplying = {path or "model" for path, total in profile.by_module().items() if total.macs}
    assert dots(shown).keys() == multiplying
    shown.run("arguments[0].dispatchEvent(new MouseEvent('click'))", dots(shown)["blocks.2"])
    assert shown.texts("#trail button") == ["model", "blocks", "2"]
    assert dots(shown).keys() == {"blocks.2", "blocks.2.up", "blocks.2.down"}


def test_a_pointer_over_a_dot_tells_what_it_is(page, profile):
    shown = page(profile, roofline=profile.on("T4"))
    name, dot = next(iter(dots(shown).items()))
    shown.run("arguments[0].dispatchEvent(new MouseEvent('mouseenter'))", dot)
    tip = shown.text("#tip")
    assert tip.startswith(name)
    assert "FLOP/B" in tip
    assert "at least" in tip
    shown.run("arguments[0].dispatchEvent(new MouseEvent('mouseleave'))", dot)
    assert not shown.one("#tip").is_displayed()


def test_a_dtype_without_a_peak_is_named_and_its_dot_is_hollow(page):
    net = nn.Linear(8, 8).to(torch.float64)
    with OpCounter(net) as c:
        net(torch.ones(4, 8, dtype=torch.float64))
    device = next(each for each in known_devices() if not each.has_peak("float64"))
    roofline = c.profile.on(device)
    shown = page(c.profile, roofline=roofline)
    assert shown.text("#no-peak") == roofline.verdict()
    (dot,) = dots(shown).values()
    assert "unrated" in dot.get_attribute("class")
    choose(shown, "H100-SXM5-80GB")
    assert not shown.one("#no-peak").is_displayed()


def test_giving_up_the_device_gives_up_its_times(page, profile):
    shown = page(profile, "#device=T4&metric=time")
    assert shown.one(".metric[aria-checked=true]").get_attribute("data-metric") == "time"
    choose(shown, "choose a device")
    assert shown.one(".metric[aria-checked=true]").get_attribute("data-metric") == "macs"
    assert not shown.one("#floors").is_displayed()


def test_names_in_the_chart_are_text(page):
    net = nn.Sequential()
    for name in HOSTILE:
        net.add_module(name, nn.Linear(4, 4))
    with OpCounter(net) as c:
        net(torch.ones(2, 4))
    shown = page(c.profile, roofline=c.profile.on("T4"))
    shown.click('[data-dots="modules"]')
    assert dots(shown).keys() == {"model", *HOSTILE}
    assert shown.all("img") == []


def test_a_count_of_an_old_version_has_no_roofline(page):
    record = Record(("",), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(7, 0, 1))
    shown = page(Profile((record,), {"": Module("", "Net")}, provenance={"bytes read": "not counted"}))
    assert not shown.one("#roofline").is_displayed()


def test_a_count_without_products_has_no_dots(page):
    net = nn.ReLU()
    with OpCounter(net) as c:
        net(torch.ones(4))
    shown = page(c.profile, roofline=c.profile.on("T4"))
    assert dots(shown) == {}
    assert "aten.relu.default" in shown.text("#roofline-facts")


@pytest.mark.parametrize("bandwidth", [1e7, 3.7e8, 123456789, 1e9, 5e11, 1e13, 2e15])
def test_times_and_rates_read_as_in_the_other_reports(page, bandwidth):
    record = Record(("",), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(500, 0, 1), 0, "", 12345)
    profile = Profile((record,), {"": Module("", "Net")})
    roofline = profile.on(Device(name="ours", peaks={"float32": 8.125e13}, bandwidth=bandwidth))
    shown = page(profile, roofline=roofline)
    assert duration(roofline.seconds) in shown.text('.metric[data-metric="time"]').split("\n")
    device = next(line for line in roofline.lines() if line.startswith("device"))
    assert device.removeprefix("device") in shown.text("#roofline-facts")


def test_generated_text_has_its_rates(page):
    record = Record(("",), "aten.mm.default", "matmul", "decode", "float32", 1, Cost(500, 0, 1), 0, "", 12345)
    facts = stage_facts({"decode": Stage(32, 1024)})
    profile = Profile((record,), {"": Module("", "Net")}, provenance=facts)
    roofline = profile.on("T4")
    shown = page(profile, roofline=roofline)
    (line,) = [line for line in roofline.lines() if line.startswith("decode: at most")]
    assert line in shown.text("#roofline-facts")
