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
    assert lines[2] == "**Passed: 2 within their limits of 2 counts.**"
    assert lines[4:6] == ["| test | MACs | limit | verdict | change | where |", "|---|---:|---|---|---:|---|"]
    small, large = line_of(pytester, "def test_small") - 1, line_of(pytester, "def test_large")  # a mark is above one
    assert lines[6] == f"| `test_it.py::test_small` | 250 MAC | 1.000 kMAC | within | +66.7 % | test_it.py:{small} |"
    assert lines[7] == (
        f"| `test_it.py::test_large a\\|b` | 3.000 kMAC | at least 1 MAC | within | - | test_it.py:{large} |"
    )
    assert "- `test_it.py::test_small`: 150 MAC -> 250 MAC. Changed most: 0: 100 MAC -> 200 MAC." in lines


def line_of(pytester, text):
    lines = (pytester.path / "test_it.py").read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if text in line)


FAILING = """
@pytest.mark.flop_budget("100 MAC", modules={"[0-9]": "60 MAC"}, model="deep")
def test_over(deep):
    deep(torch.ones(1, 4))

@pytest.mark.flop_budget(min="1 kMAC")
def test_under(net):
    run(net)

def test_other(op_counter, net):
    run(net)
    assert op_counter.macs == 149

def test_skipped(op_counter, net):
    run(net)
    pytest.skip("no")

def test_regression(op_counter, flop_regression, net):
    run(net)
    flop_regression.check(op_counter)

@pytest.fixture
def deep():
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)), nn.Linear(4, 20))
"""


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["alone", "xdist"])
def test_a_reviewer_reads_each_failure_with_its_line_once(check, pytester, monkeypatch, args):
    step = pytester.path / "step.md"
    step.write_text("before\n")
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(step),
        "GITHUB_WORKSPACE": str(pytester.path.parent),
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "a/b",
        "GITHUB_SHA": "abc",
    }
    for name, value in github.items():
        monkeypatch.setenv(name, value)
    result = check(FAILING, "-q", "--flops", *args)
    result.assert_outcomes(failed=4, skipped=1)
    out = result.stdout.lines
    over, other = line_of(pytester, '"100 MAC"'), line_of(pytester, "assert op_counter.macs")
    under, check_line = line_of(pytester, "1 kMAC"), line_of(pytester, "flop_regression.check(op")
    # one limit a line, equal modules once: 8 x 16 + 80 = 208 MAC, of which 0-7 are within 60 MAC each
    assert "test_over: limited to 100 MAC, counted 208 MAC (+108.0 %)" in out
    assert "test_over: 8 limited to 60 MAC, counted 80 MAC (+33.3 %)" in out
    assert "Biggest spenders: 8: 80 MAC (38.5 %), 0-7 x8: 16 MAC each (61.5 %)." in out
    assert "  0-7 x8 (Linear)  16 MAC each (61.5 %)" in out  # under -q, too
    assert any(line.startswith("FAILED test_it.py::test_over - limited to 100 MAC") for line in out)
    folder = pytester.path.name
    assert f"::error file={folder}/test_it.py,line={over}::test_it.py::test_over: limited to 100 MAC, counted " in (
        "\n".join(out)
    )
    assert [line.partition("::test_it")[0] for line in out if line.startswith("::error")] == [
        f"::error file={folder}/test_it.py,line={line}" for line in (over, over, under, other, check_line)
    ]
    assert "150 MAC  test_it.py::test_other  failed" in "\n".join(out)
    lines = step.read_text().splitlines()
    assert lines[0] == "before"
    assert "**Failed: 1 over its limit, 1 under its limit, 1 without a baseline, 1 failed (of 4 counts).**" in lines
    cells = {line.split("|")[1].strip(" `").rpartition("::")[2]: line for line in lines if line.startswith("| `")}
    link = f"[test_it.py:{over}](https://github.com/a/b/blob/abc/{folder}/test_it.py#L{over})"
    assert (
        cells["test_over"] == f"| `test_it.py::test_over` | 208 MAC | 100 MAC, [0-9] 60 MAC | **over** | new | {link} |"
    )
    assert "| **under** |" in cells["test_under"]
    assert "| **failed** |" in cells["test_other"]
    assert "| **no baseline** |" in cells["test_regression"]
    assert "- **over** `test_it.py::test_over`: 8 limited to 60 MAC, counted 80 MAC (+33.3 %)" in lines


def test_modules_that_fail_alike_share_a_line(check):
    result = check(FAILING.replace('"60 MAC"', '"10 MAC"'), "-k", "test_over")
    result.stdout.fnmatch_lines(["test_over: 0-7 x8, each limited to 10 MAC, counted 16 MAC (+60.0 %)"])


def test_outside_of_github_no_command_is_printed(check):
    assert "::error" not in check(FAILING).stdout.str()


def test_a_summary_that_cannot_be_written_is_a_problem_that_is_said(check, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path))
    result = check(TESTS)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["GITHUB_STEP_SUMMARY=*: expected a file that can be written, got IsADirectoryError*"])


def test_counts_of_a_test_that_failed_are_compared_with_nothing(check, pytester):
    check(FAILING, "--flops-json=old.json", "-k", "test_other")
    test = FAILING.replace("== 149", "== 300").replace("run(net)", "run(net); run(net)")
    result = check(test, "--flops-compare=old.json", "--flops-compare-fail=macs:1%", "-k", "test_other")
    assert result.ret == 0
    assert "increased" not in result.stdout.str()


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
        "opcount.buffer_bytes": "0",
        "opcount.bus_bytes": "0",
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
    return nn.Sequential(*(layer for n in range(8) for layer in (nn.Linear(4, 9 - n), nn.Linear(9 - n, 4, bias=False))))
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
