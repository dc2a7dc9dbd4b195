"""Live bytes on the page: the metric, what they are for, and how they ran."""

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.reporter.numbers import si


def trained(width):
    model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 4))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    with OpCounter(model, memory=True, dry_run=True) as c:
        for _ in range(2):
            model(torch.randn(16, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    return c.profile


@pytest.fixture(scope="module")
def small():
    return trained(16)


@pytest.fixture(scope="module")
def large():
    return trained(64)


def test_live_bytes_are_a_metric(page, small):
    shown = page(small)
    shown.click('.metric[data-metric="live"]')
    assert shown.text('.metric[data-metric="live"] .value') == si(small.memory.peak, "B")
    whole, made = shown.cell("").size["width"], small.memory.by_module()
    for path in ("0", "2"):
        assert shown.cell(path).size["width"] == pytest.approx(whole * made[path] / small.memory.peak, abs=1.5)
    shown.cell("0").click()
    assert "(alive before)" in shown.text("#details")
    assert "before, parameters" in shown.text("#details")


def test_bytes_are_those_that_a_phase_made(page, small):
    shown = page(small, "#metric=live")
    shown.click('[data-phase="before"]')
    assert shown.text('.metric[data-metric="live"] .value') == si(small.memory.by_phase()["before"], "B")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_curve_reaches_the_peak(page, small, scheme):
    shown = page(small)
    shown.emulate(scheme=scheme)
    assert f"peak {si(small.memory.peak, 'B')}" in shown.text("#curve-key")
    points = shown.one("#curve-chart .now").get_attribute("points").split()
    assert len(points) == len(small.memory.curve) + 2  # and both ends of the floor
    heights = [float(point.split(",")[1]) for point in points]
    assert min(heights) == pytest.approx(float(shown.one("#curve-chart .top").get_attribute("cy")))
    ground = shown.one("body").value_of_css_property("background-color")
    assert shown.one("#curve-chart .now").value_of_css_property("stroke") != ground


def test_two_curves_are_compared(page, small, large):
    shown = page(large, baseline=small)
    assert si(small.memory.peak, "B") in shown.text('.metric[data-metric="live"]')
    assert len(shown.all("#curve-chart .was")) == 1
    assert shown.text("#curve-key").startswith("before: peak")


def test_a_count_without_memory_has_neither(page):
    model = nn.Linear(4, 4)
    with OpCounter(model) as c:
        model(torch.ones(1, 4))
    shown = page(c.profile)
    assert shown.all('.metric[data-metric="live"]') == []
    assert not shown.one("#curve").is_displayed()
