"""Markers, fixtures and decorators under pytest, alone and on xdist's workers."""

from __future__ import annotations

import pytest

FORMS = """
@pytest.mark.flop_budget("{0} MAC")
def test_marker(net):
    run(net)

@pytest.mark.flop_budget(modules={{"0": "{1} MAC"}}, model="net")
def test_marker_with_model(net):
    run(net)

@budget("{0} MAC")
def test_decorator():
    run(make_net())

class TestMethods:
    @budget("{0} MAC")
    def test_method(self, net):
        run(net)

def test_fixture(flop_budget, net):
    with flop_budget("{0} MAC", model=net) as c:
        run(net)
    assert (c.macs, type(c.macs)) == (150, int)

import unittest
class TestOld(unittest.TestCase):
    def setUp(self):
        run(make_net())
    tearDown = setUp
    @pytest.mark.flop_budget("{0} MAC")
    def test_old(self):
        run(make_net())

class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        run(make_net())
    @pytest.mark.flop_budget("{0} MAC")
    async def test_async(self):
        run(make_net())
"""


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["alone", "xdist"])
def test_every_form_passes_at_the_limit(check, args):
    check(FORMS.format(150, 100), *args).assert_outcomes(passed=7)


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["alone", "xdist"])
def test_every_form_fails_one_below_it_in_one_line_with_evidence(check, args):
    result = check(FORMS.format(149, 99), *args)
    result.assert_outcomes(failed=7)
    for name in ("test_marker", "test_decorator", "test_method", "test_fixture", "test_old", "test_async"):
        result.stdout.fnmatch_lines([f"*{name}: limited to 149 MAC, counted 150 MAC (+0.7 %). Biggest spenders: *"])
    result.stdout.fnmatch_lines(["*test_marker_with_model: 0 limited to 99 MAC, counted 100 MAC (+1.0 %)*"])
    result.stdout.fnmatch_lines(
        [
            "*- FLOP budget -*",
            "MAC of the biggest modules, each without its children:",
            "*0 (Linear)*100 MAC (66.7 %)",
            "*aten.addmm.default (10, 1x10, 10x10) -> 1x10*",
            "convention fvcore, every operator is accounted for",
        ]
    )


def test_the_failure_of_a_marker_or_decorator_shows_no_frame_of_ours(check):
    text = check(FORMS.format(149, 99)).stdout.str()
    assert "opcount/" not in text
    assert "pluggy" not in text.split("= FAILURES =")[1]


def test_the_call_phase_alone_is_counted_and_several_budgets_hold_in_one_test(check):
    check("""
def test_counter(op_counter, net):
    assert op_counter.macs == 0
    run(net)
    assert op_counter.macs == 150

def test_several(flop_budget, net):
    with flop_budget("150 MAC", name="first"):
        run(net)
    with flop_budget(exact="300 MAC", name="second"):
        run(net); run(net)

@pytest.mark.flop_budget("150 MAC")
@pytest.mark.flop_budget(min="150 MAC", model="net")
def test_several_markers(op_counter, net):
    run(net)
    assert op_counter.params == 165

@pytest.mark.flop_budget("200 MAC", phase="backward")
def test_phase(net):
    run(net).sum().backward()
""").assert_outcomes(passed=4)


def test_several_budgets_are_told_apart_in_the_failure(check):
    result = check("""
def test_several(flop_budget, net):
    with flop_budget("149 MAC", name="encoder"):
        run(net)
""")
    result.stdout.fnmatch_lines(["*test_several, encoder: limited to 149 MAC, counted 150 MAC*"])


def test_parametrised_tests_are_named_with_their_parameters(check):
    result = check("""
@pytest.mark.flop_budget("150 MAC")
@pytest.mark.parametrize("rows", [1, 2])
def test_rows(net, rows):
    net(torch.ones(rows, 10))
""")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_rows[[]2[]]: limited to 150 MAC, counted 300 MAC (+100.0 %)*"])


def test_nothing_counted_fails_and_asks(check):
    result = check("""
@pytest.mark.flop_budget("1 GMAC")
def test_marker(net):
    pass

def test_block(flop_budget):
    with flop_budget("1 GMAC"):
        pass
""")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*test_marker: 0 operators seen: was the model run inside the test?"])
    result.stdout.fnmatch_lines(["*test_block: 0 operators seen: was the model run inside the test?"])


def test_an_uncounted_operator_fails_closed_unless_allowed(check):
    result = check(
        """
@torch.library.custom_op("plugintest::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() * 2)

@pytest.mark.flop_budget("1 GMAC")
def test_closed():
    odd(torch.ones(2))

@pytest.mark.flop_budget("1 GMAC", allow_uncounted=True)
def test_allowed():
    odd(torch.ones(2))

@pytest.mark.flop_budget("1 GMAC", allow_uncounted=["plugintest.*"])
def test_named():
    odd(torch.ones(2))
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*test_closed: 1 operator without a formula*plugintest.odd.default (1 call)*"])


SHARED = """
@pytest.mark.flop_budget("300 MAC", scope="class")
class TestShared:
    def test_a(self, net): run(net)
    def test_b(self, net): run(net)
    def test_c(self, net): run(net)
"""


@pytest.mark.parametrize("args", [(), ("-n2", "--dist=loadscope")], ids=["alone", "xdist"])
def test_a_scope_shares_one_budget(check, args):
    result = check(SHARED, *args)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*class TestShared, up to test_c: limited to 300 MAC, counted 450 MAC (+50.0 %)*"])


def test_a_shared_budget_refuses_tests_that_are_scattered_over_processes(check):
    result = check(SHARED, "-n2")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*got xdist with --dist=load. Pass --dist=loadscope."])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('"4.2"', "test_it: @pytest.mark.flop_budget: expected a quantity such as '4.2 GMAC', got '4.2' of type str*"),
        ('"4.2 GMACC"', "*Did you mean 'GMAC'?*"),
        ('"-1 MAC"', "*expected a count from 0 up, got '-1 MAC'*"),
        ("max_macs=float('nan')", "*got nan of type float*"),
        ('"1 MAC", scope="layer1"', "*expected a scope out of function, class, module, session, got 'layer1'*"),
        ('"1 MAC", scope="class"', "*test_it: @pytest.mark.flop_budget: expected a test of a class, got one without*"),
        ('min="1 MAC", scope="module"', "*expected upper limits of the whole count for the scope 'module'*"),
        ('"1 MAC", model="nett"', "*expected a model, or the name of a fixture of the test, got 'nett'*"),
        ('"1 MAC", model=3', "*OpCounter: expected an nn.Module or None, got 3 of type int*"),
        ('modules={"1.*": "1 MAC"}, model="net"', "*got '1.[*]', which matches none. *"),
        ('"1 FLOP", convention="fvcroe"', "*Did you mean 'fvcore'?*"),
    ],
)
def test_a_marker_that_cannot_be_read_says_why(check, marker, message):
    result = check(f"""
@pytest.mark.flop_budget({marker})
def test_it(net):
    run(net)
""")
    assert result.ret == 1
    result.stdout.fnmatch_lines([message])


def test_skips_expected_failures_and_other_failures_stay_what_they_are(check):
    result = check("""
@pytest.mark.flop_budget("1 MAC")
def test_skip(net):
    pytest.skip("later")

@pytest.mark.xfail(strict=True, raises=AssertionError)
@pytest.mark.flop_budget("1 MAC")
def test_xfail(net):
    run(net)

@pytest.mark.flop_budget("1 MAC")
def test_raises(net):
    run(net)
    raise KeyError("mine")
""")
    result.assert_outcomes(skipped=1, xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["E       KeyError: 'mine'"])


def test_scaling_is_part_of_the_fixture(check):
    result = check("""
def test_square(flop_budget):
    flop_budget.scaling(lambda n: torch.ones(n, 4) @ torch.ones(4, n), sizes=(2, 4, 8), at_most="n^2")
    flop_budget.scaling(lambda n: torch.ones(n, 4) @ torch.ones(4, n), sizes=(2, 4, 8), at_most="n")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_square: limited to n, grew as n^2.00 (n = 2: 16 MAC, 4: 64 MAC, 8: 256 MAC)*"])


def test_a_rerun_is_counted_afresh(check):
    pytest.importorskip("pytest_rerunfailures")
    result = check(
        """
tries = []

@pytest.mark.flop_budget("150 MAC")
def test_flaky(net, op_counter):
    run(net)
    tries.append(1)
    assert len(tries) == 2
""",
        "--reruns=1",
        "--flops",
    )
    result.assert_outcomes(passed=1)
    assert str(result.stdout).count("150 MAC  test_it") == 1


def test_a_run_without_counts_imports_no_torch(check, pytester):
    pytester.makepyfile(test_plain="import sys\ndef test_it(): assert not {'torch', 'numpy'} & set(sys.modules)")
    check("", subprocess=True).assert_outcomes(passed=1)


def test_a_run_without_the_plugin_has_no_fixtures_and_the_decorator_still_holds(pytester):
    pytester.makepyfile("""
import torch
from opcount import flop_budget

def test_fixture(op_counter): pass

@flop_budget("1 MAC")
def test_decorator(): torch.ones(2, 2) @ torch.ones(2, 2)
""")
    result = pytester.runpytest_subprocess("-p", "no:opcount")
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*fixture 'op_counter' not found", "*test_decorator: limited to 1 MAC, counted 8 MAC*"]
    )
