"""``flop_regression``, the last run, and files to compare with."""

from __future__ import annotations

import json

import pytest

TEST = """
@pytest.mark.parametrize("rows", [1, 2])
def test_forward(flop_regression, op_counter, rows):
    make_net()(torch.ones(rows, 10))
    flop_regression.check(op_counter)

class TestIt:
    def test_model(self, flop_regression, flop_budget, net):
        with flop_budget("1 kMAC", model=net) as c:
            run(net)
        flop_regression.check(c, depth=1)
        flop_regression.check(c.profile, depth=0, name="whole")
"""

MODEL_BASELINE = """\
# opcount baseline 1, convention fvcore, depth 1
(model): macs=150 flops=150 activations=15 params=165
0: macs=100 flops=100 activations=10 params=110 weight=10x10 bias=10
2: macs=50 flops=50 activations=5 params=55 weight=5x10 bias=5
"""


def folder(pytester):
    return pytester.path / "test_it.flops"


def stored(pytester):
    return {path.name: path.read_text() for path in sorted(folder(pytester).iterdir())}


def test_a_missing_baseline_fails_and_is_written_on_request_and_then_passes(check, pytester):
    result = check(TEST)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*test_model: expected a baseline, got no file *Run pytest with --flops-update."])
    assert not folder(pytester).exists()
    check("", "--flops-update").assert_outcomes(passed=3)
    files = stored(pytester)
    assert sorted(files) == [
        "TestIt.test_model.txt",
        "TestIt.test_model.whole.txt",
        "test_forward[1].txt",
        "test_forward[2].txt",
    ]
    assert files["TestIt.test_model.txt"] == MODEL_BASELINE
    check("").assert_outcomes(passed=3)
    check("", "-n2").assert_outcomes(passed=3)


def test_a_change_fails_with_the_modules_that_changed_and_the_remedy(check, pytester):
    check(TEST, "--flops-update").assert_outcomes(passed=3)
    before = stored(pytester)
    result = check(TEST.replace("run(net)", "run(net); net[2](torch.ones(3, 10))"))
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*: baseline 150 MAC, counted 300 MAC (+100.0 %); 2 modules changed. Changed most: 2: 50 MAC -> 200 MAC. *",
            "*- FLOP budget -*",
            "baseline *TestIt.test_model.txt",
            "MAC of the modules that changed:",
            "*2 (Linear)*50 MAC -> 200 MAC (+300.0 %)",
        ]
    )
    assert stored(pytester) == before
    check("", "-n2", "--flops-update").assert_outcomes(passed=3)
    assert {name for name, text in stored(pytester).items() if text != before[name]} == {
        "TestIt.test_model.txt",
        "TestIt.test_model.whole.txt",
    }


def test_less_is_a_change_too_and_a_tolerance_is_a_share(check):
    test = """
def test_it(flop_regression, op_counter):
    nn.Linear(10, 10)(torch.ones({rows}, 10))
    flop_regression.check(op_counter, rtol=0.1)
"""
    check(test.format(rows=10), "--flops-update").assert_outcomes(passed=1)
    check(test.format(rows=11)).assert_outcomes(passed=1)
    check(test.format(rows=9)).assert_outcomes(passed=1)
    check(test.format(rows=12)).assert_outcomes(failed=1)
    check(test.format(rows=8)).assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<<<<<< ours\n", "*test_model.txt, line 1: expected a line that opcount wrote, got '<<<<<<< ours'.*"),
        (MODEL_BASELINE.replace("baseline 1", "baseline 7"), "*expected a baseline of format 1 to 1, got 7.*"),
    ],
)
@pytest.mark.parametrize("args", [(), ("--flops-update",)], ids=["check", "update"])
def test_a_corrupt_or_newer_baseline_is_an_error_and_never_overwritten(check, pytester, text, message, args):
    check(TEST, "--flops-update")
    path = folder(pytester) / "TestIt.test_model.txt"
    path.write_text(text)
    result = check("", *args)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([message])
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("check(3)", "*expected an OpCounter or a Profile, got 3 of type int*"),
        (
            "check(op_counter, rtol=-1)",
            "*test_it: flop_regression.check: expected an rtol such as 0.01, got -1 of type int*",
        ),
        ("check(op_counter, depth=-1)", "*expected a depth from 0 up, or None for all modules, got -1*"),
        (
            "check(op_counter); flop_regression.check(op_counter)",
            "*expected a name for each baseline of a test, got ''*",
        ),
    ],
)
def test_a_check_that_is_called_wrongly_says_why(check, call, message):
    result = check(
        f"""
def test_it(flop_regression, op_counter, net):
    run(net)
    flop_regression.{call}
""",
        "--flops-update",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])


def test_a_count_of_some_steps_of_a_loop_is_no_baseline(check, pytester):
    result = check(
        """
from opcount import OpCounter

def test_it(flop_regression, net):
    c = OpCounter(net, every=3)
    for _ in range(7):
        with c:
            run(net)
    flop_regression.check(c)
""",
        "--flops-update",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*flop_regression.check: expected a count of all that ran, got one measured in 3 of 7*"]
    )
    assert not folder(pytester).exists()


def test_nothing_counted_writes_no_baseline(check, pytester):
    check(
        "def test_it(flop_regression, op_counter): flop_regression.check(op_counter)", "--flops-update"
    ).assert_outcomes(failed=1)
    assert not folder(pytester).exists()


GROWING = """
@pytest.mark.flop_budget("1 kMAC", model="net")
def test_it(net):
    net(torch.ones({rows}, 10))
"""


def test_an_increase_over_the_last_run_fails_on_a_worker_too(check):
    assert check(GROWING.format(rows=2), "-n1").ret == 0
    assert check(GROWING.format(rows=3), "-n1", "--flops-fail-on-increase").ret == 1


def test_an_increase_over_the_last_run_fails_until_it_is_accepted(check):
    fail = "--flops-fail-on-increase"
    assert check(GROWING.format(rows=2), fail).ret == 0  # nothing to compare with yet
    for _ in range(2):  # a failure does not become the last run
        result = check(GROWING.format(rows=3), fail)
        assert result.ret == 1
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            ["test_it.py::test_it: 450 MAC, 50.0 % more than in its last run (300 MAC). Changed most: 0: 200 MAC -> *"]
        )
    assert check(GROWING.format(rows=3), f"{fail}=50%").ret == 0
    assert check(GROWING.format(rows=3), fail).ret == 0  # it passed, and is the last run now
    assert check(GROWING.format(rows=1), fail).ret == 0
    assert check(GROWING.format(rows=3), fail, "--flops-update").ret == 0
    assert check(GROWING.format(rows=3), fail).ret == 0


def test_the_evidence_of_a_budget_shows_what_changed_since_the_last_run(check):
    check(GROWING.format(rows=2))
    result = check(GROWING.format(rows=9))
    result.stdout.fnmatch_lines(
        ["*counted 1.350 kMAC (+35.0 %). Changed most: 0: 200 MAC -> 900 MAC, 2: 100 MAC -> 450 MAC."]
    )


def test_a_file_to_compare_with_decides_by_metric_and_share(check, pytester):
    check(GROWING.format(rows=2), "--flops-json=old.json")
    compare = ("--flops-compare=old.json", "-p", "no:cacheprovider")
    assert check(GROWING.format(rows=3), *compare).ret == 0
    assert check(GROWING.format(rows=3), *compare, "--flops-compare-fail=macs:50%").ret == 0
    assert check(GROWING.format(rows=3), *compare, "--flops-compare-fail=flops:150 FLOP").ret == 0
    assert check(GROWING.format(rows=3), *compare, "--flops-compare-fail=params:0%").ret == 0
    for rule in ("macs:49%", "flops:149", "activations:0%"):
        result = check(GROWING.format(rows=3), *compare, f"--flops-compare-fail={rule}")
        assert result.ret == 1
        result.stdout.fnmatch_lines(["test_it.py::test_it: * 50.0 % more than in old.json *"])
        result.stdout.fnmatch_lines([f"--flops-compare-fail={rule}: failed, 1 count grew by more than that"])


DEPTHWISE = """
@pytest.fixture
def convs():
    return nn.Sequential(*(nn.Conv2d(32, 32, 3, groups={groups}, bias=False) for _ in range(3)))

def test_it(flop_budget, flop_regression, convs):
    with flop_budget("1 GMAC", model=convs) as c:
        convs(torch.ones(1, 32, 8, 8))
    {check}
"""


def test_a_changed_module_shows_the_shapes_that_changed(check, pytester):
    before, after = ({"groups": groups, "check": "flop_regression.check(c)"} for groups in (32, 1))
    check(DEPTHWISE.format(**before), "--flops-update", "-p", "no:cacheprovider")
    result = check(DEPTHWISE.format(**after), "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*Changed most: 0: * (weight 32x1x3x3 -> 32x32x3x3), 1: *"])
    result.stdout.fnmatch_lines(["  0 (Conv2d)  *", "    weight 32x1x3x3 -> 32x32x3x3"])
    before["check"] = after["check"] = "pass"
    check(DEPTHWISE.format(**before), "--flops-json=old.json")
    compare = ("--flops-compare=old.json", "--flops-compare-fail=macs:1%", "--flops-markdown=new.md")
    result = check(DEPTHWISE.format(**after), *compare)
    result.stdout.fnmatch_lines(["*more than in old.json*Changed most: 0: *(weight 32x1x3x3 -> 32x32x3x3)*"])
    assert r"(weight 32x1x3x3 -\> 32x32x3x3)" in (pytester.path / "new.md").read_text().replace("->", r"-\>")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--flops-compare=absent.json"],
            "*--flops-compare=absent.json: expected a file that --flops-json wrote, got *",
        ),
        (
            ["--flops-compare=bad.json"],
            "*--flops-compare=bad.json: expected a file that --flops-json wrote, got other JSON.*",
        ),
        (["--flops-compare=new.json"], "*--flops-compare=new.json: expected schema 1 to 1, got 9.*"),
        (["--flops-compare=hurt.json"], "*--flops-compare=hurt.json: the file is damaged: expected *"),
        (["--flops-compare-fail=macs:1%"], "*expected --flops-compare=FILE with it, got none*"),
        (["--flops-compare-fail=macs"], "*expected a metric and by how much it may grow, such as macs:1%, got 'macs'*"),
        (["--flops-compare-fail=macs:fast"], "*expected macs:1% or macs:COUNT, got 'macs:fast'*"),
        (
            ["--flops-fail-on-increase", "tests/"],
            "*expected a percentage such as 1% or a count such as 1000, got 'tests/'*",
        ),
        (["--flops-fail-on-increase", "-p", "no:cacheprovider"], "*expected pytest's cache, got -p no:cacheprovider*"),
        (["--flops-top=0"], "*expected a number of tests above 0, got '0'*"),
        (
            ["--flops-json=no/such/x.json"],
            "*--flops-json: expected a file in a folder that exists, got 'no/such/x.json'*",
        ),
    ],
)
def test_an_option_that_cannot_be_followed_is_refused_before_any_test_runs(check, pytester, args, message):
    for name, data in {"bad": [], "new": {"schema": 9}, "hurt": {"schema": 1, "tests": [{}]}}.items():
        text = json.dumps({"format": "opcount.tests", **data} if data else [])
        (pytester.path / f"{name}.json").write_text(text)
    result = check(GROWING.format(rows=1), *args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    assert "passed" not in result.stdout.str()


def test_a_change_is_told_in_macs_and_a_change_of_flops_alone_names_the_convention(check):
    test = """
def test_it(flop_budget, flop_regression):
    norms = nn.Sequential(nn.Linear(8, 8), *(nn.LayerNorm(8) for _ in range({norms})))
    with flop_budget("1 kMAC", model=norms) as c:
        norms(torch.ones({rows}, 8))
    flop_regression.check(c, depth=0)
"""
    check(test.format(norms=1, rows=1), "--flops-update")
    result = check(test.format(norms=1, rows=2))
    result.stdout.fnmatch_lines(["*baseline 64 MAC, counted 128 MAC (+100.0 %);*"])
    result = check(test.format(norms=2, rows=1))
    result.stdout.fnmatch_lines(["*baseline * FLOP, counted * FLOP (+*, convention fvcore);*"])
