"""Output of a run at its end."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from xml.etree import ElementTree as ET

import pytest

from tests.plugin.conftest import ROOT

TESTS = """
@pytest.mark.flop_budget("1 kMAC", model="net")
def test_small(net):
    run(net)

def test_large(flop_budget, net):
    with flop_budget(min="1 MAC", name="a|b", model=net):
        net(torch.ones(20, 10))

def test_plain():
    pass
"""


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["alone", "xdist"])
def test_the_summary_lists_what_was_counted(check, args):
    result = check(TESTS, "--flops", *args)
    result.assert_outcomes(passed=3)
    text = result.stdout.str()
    assert "= MACs of 2 tests =" in text
    assert "   150 MAC  test_it.py::test_small  limit 1.000 kMAC" in text
    assert "3.000 kMAC  test_it.py::test_large a|b  limit at least 1 MAC" in text


def test_the_top_lists_the_largest_first(check):
    result = check(TESTS, "--flops-top=1")
    text = result.stdout.str()
    assert "3.000 kMAC  test_it.py::test_large a|b  limit at least 1 MAC" in text
    assert "and 1 more (--flops)" in text
    assert "test_small" not in text.split("MACs of")[1]


def test_without_options_nothing_is_printed(check):
    assert "FLOP" not in check(TESTS).stdout.str()


@pytest.mark.parametrize("args", [(), ("-n2",)], ids=["alone", "xdist"])
def test_the_json_file_holds_every_count_and_its_modules(check, pytester, args):
    check(TESTS, "--flops-json=flops.json", *args)
    data = json.loads((pytester.path / "flops.json").read_text())
    small, large = sorted(data["tests"], key=lambda row: row["macs"])
    assert (small["test"], small["macs"], small["params"]) == ("test_it.py::test_small", 150, 165)
    assert small["modules"] == {
        "": [150, 150, 15, 165],
        "0": [100, 100, 10, 110],
        "1": [0, 0, 0, 0],
        "2": [50, 50, 5, 55],
    }
    assert (large["name"], large["macs"], large["limits"]) == ("a|b", 3000, ["at least 1 MAC"])


def test_the_markdown_table_survives_hostile_names_and_shows_what_changed(check, pytester):
    check(TESTS)
    check(TESTS.replace("run(net)", "run(net); net[0](torch.ones(1, 10))"), "--flops-markdown=flops.md")
    lines = (pytester.path / "flops.md").read_text().splitlines()
    assert lines[0] == "### MACs of 2 tests"
    assert lines[2:4] == ["| test | MACs | limit | change |", "|---|---:|---|---:|"]
    assert lines[4] == "| `test_it.py::test_small` | 250 MAC | 1.000 kMAC | +66.7 % |"
    assert lines[5] == "| `test_it.py::test_large a\\|b` | 3.000 kMAC | at least 1 MAC | - |"
    assert "- `test_it.py::test_small`: 150 MAC -> 250 MAC. Changed most: 0: 100 MAC -> 200 MAC." in lines


def test_junit_gets_the_counts_as_properties(check, pytester):
    check(TESTS, "--junit-xml=junit.xml", "-o", "junit_family=xunit1")
    root = ET.parse(pytester.path / "junit.xml").getroot()  # noqa: S314  (written by this test)
    found = {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in root.iter("testcase")
    }
    assert found["test_small"] == {
        "opcount.bytes_read": "780",
        "opcount.bytes_written": "140",
        "opcount.traffic": "920",
        "opcount.macs": "150",
        "opcount.flops": "150",
        "opcount.activations": "15",
        "opcount.params": "165",
    }
    assert found["test_large"]["opcount.a|b.macs"] == "3000"
    assert found["test_plain"] == {}


def test_a_benchmark_gets_the_counts_and_the_rate(check, pytester, monkeypatch):
    pytest.importorskip("pytest_benchmark", minversion="5.3")  # older ones do not know pytest 9
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):  # on a worker nothing is timed
        monkeypatch.delenv(name, raising=False)
    result = check(
        """
@pytest.mark.flop_budget(exact="150 MAC")
def test_marked(benchmark, net):
    benchmark(run, net)

def test_apart(benchmark, flop_budget, net):
    with flop_budget("150 MAC"):
        run(net)
    benchmark(run, net)
""",
        "--benchmark-json=bench.json",
        "--benchmark-max-time=0.01",
        "-p",
        "no:xdist",
        "-Wdefault",
        benchmark=True,
        subprocess=True,
    )
    result.assert_outcomes(passed=2)
    for row in json.loads((pytester.path / "bench.json").read_text())["benchmarks"]:
        assert row["extra_info"]["macs"] == 150
        assert row["extra_info"]["flops_per_second"] == pytest.approx(150 / row["stats"]["mean"])


def test_counts_are_plain_integers_for_snapshot_libraries(check):
    pytest.importorskip("syrupy")
    test = """
def test_it(op_counter, net, snapshot):
    run(net)
    assert op_counter.macs == snapshot
    assert {path: total.macs for path, total in op_counter.by_module().items()} == snapshot
"""
    check(test, "--snapshot-update", subprocess=True).assert_outcomes(passed=1)
    check("", subprocess=True).assert_outcomes(passed=1)


def test_verbosity_shows_more_modules(check):
    test = """
@pytest.mark.flop_budget("1 MAC", model="deep")
def test_it(deep):
    deep(torch.ones(1, 4))

@pytest.fixture
def deep():
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
"""
    quiet, loud = (check(test, *args).stdout.str() for args in ((), ("-v",)))
    assert (quiet.count("(Linear)"), loud.count("(Linear)")) == (5, 8)
    assert "and 3 more (-v)" in quiet


def test_the_entry_point_is_the_plugin():
    project = (ROOT / "pyproject.toml").read_text()
    entry = re.search(r"^\[project.entry-points.pytest11\]\n(.*)$", project, re.MULTILINE)
    assert entry.group(1) == 'opcount = "opcount.pytest_plugin"'
    for point in entry_points(group="pytest11", name="opcount"):
        assert point.value == "opcount.pytest_plugin"
