"""Budgets on profiles made by hand."""

from __future__ import annotations

import time

import pytest

from opcount import Budget, Profile
from opcount.budget.budget import enforce
from opcount.budget.watch import Watcher
from opcount.errors import BudgetError, BudgetExceededError, ConventionError, UncountedOperatorWarning
from opcount.selectors import UNITS
from tests.budget.profiles import profile, row, texts

NET = profile(("stem", 100), ("layer1.0", 300), ("layer1.1", 350), params={"": 70, "layer1": 50})


@pytest.mark.parametrize(
    ("written", "fails"),
    [
        ({"max": "750 MAC"}, False),  # 100 + 300 + 350: exactly at the limit
        ({"max": "749 MAC"}, True),
        ({"min": "750 MAC"}, False),
        ({"min": "751 MAC"}, True),
        ({"exact": "750 MAC"}, False),
        ({"exact": "749 MAC"}, True),
        ({"exact": "751 MAC"}, True),
        ({"max_macs": 750}, False),
        ({"max_macs": 749}, True),
        ({"min_flops": 751}, True),
        ({"exact_params": 70}, False),
        ({"exact_params": 71}, True),
        ({"max_activations": 30}, False),  # 10 each
        ({"max_activations": 29}, True),
        ({"max": 750, "metric": "macs"}, False),
        ({"max": "500 MAC", "rtol": 0.5}, False),  # 500 x 1.5 = 750
        ({"max": "500 MAC", "rtol": 0.499}, True),
        ({"min": "1000 MAC", "rtol": 0.25}, False),  # 1000 x 0.75 = 750
        ({"min": "1000 MAC", "rtol": 0.249}, True),
        ({"exact": "680 MAC", "rtol": 0.1}, True),  # 612 to 748
        ({"exact": "690 MAC", "rtol": 0.1}, False),  # 621 to 759
    ],
)
def test_a_limit_holds_up_to_its_bound_and_not_one_further(written, fails):
    assert bool(Budget.of(**written).check(NET)) == fails


def test_a_failure_says_limit_count_and_distance():
    assert texts(Budget.of("600 MAC"), NET) == ["limited to 600 MAC, counted 750 MAC (+25.0 %)"]
    assert texts(Budget.of(min="1 kMAC"), NET) == ["limited to at least 1.000 kMAC, counted 750 MAC (-25.0 %)"]
    assert texts(Budget.of(exact_params=100), NET) == ["limited to exactly 100 param, counted 70 param (-30.0 %)"]
    assert texts(Budget.of("500 MAC", rtol=0.1), NET) == ["limited to 500 MAC within 10 %, counted 750 MAC (+50.0 %)"]


def test_what_depends_on_a_convention_names_it():
    assert texts(Budget.of("600 FLOP"), NET)[0].endswith("(+25.0 %, convention fvcore)")
    torch = texts(Budget.of("1 kFLOP", convention="torch"), NET)  # 2 x 750
    assert torch == ["limited to 1.000 kFLOP, counted 1.500 kFLOP (+50.0 %, convention torch)"]


def test_the_sentence_of_the_error_names_the_test_and_the_biggest_spenders():
    with pytest.raises(BudgetExceededError) as caught:
        enforce(Budget.of("600 MAC"), NET, Watcher("test_x"), who="test_x")
    assert str(caught.value) == (
        "test_x: limited to 600 MAC, counted 750 MAC (+25.0 %). "
        "Biggest spenders: layer1.1: 350 MAC (46.7 %), layer1.0: 300 MAC (40.0 %), stem: 100 MAC (13.3 %)."
    )
    assert "aten.mm.default (1x10, 10x10) -> 1x10" in caught.value.evidence
    assert "convention fvcore, every operator is accounted for" in caught.value.evidence
    assert isinstance(caught.value, AssertionError)


def test_every_module_that_a_pattern_names_is_limited_on_its_own():
    assert texts(Budget.of(modules={"layer1.*": "350 MAC"}), NET) == []
    assert texts(Budget.of(modules={"layer1.*": "349 MAC"}), NET) == [
        "layer1.1 limited to 349 MAC, counted 350 MAC (+0.3 %)"
    ]
    assert texts(Budget.of(modules={"layer1": {"exact": "650 MAC", "max_params": 49}}), NET) == [
        "layer1 limited to 49 param, counted 50 param (+2.0 %)"
    ]
    assert len(Budget.of(modules={"**": "0 MAC"}).check(NET)) == 5  # the root, stem, layer1, layer1.0, layer1.1
    assert len(Budget.of(modules={"*": "0 MAC"}).check(NET)) == 3  # one name: the root, stem, layer1


def test_a_pattern_that_matches_no_module_lists_near_names():
    with pytest.raises(BudgetError) as caught:
        Budget.of(modules={"layer2.*": "1 MAC"}).check(NET)
    assert "got 'layer2.*', which matches none. Near names: layer1.1, layer1.0, layer1." in str(caught.value)


def test_a_module_that_did_not_run_is_no_success():
    idle = Profile(records=NET.records, modules={**NET.modules, "head": NET.modules["stem"]._replace(path="head")})
    assert texts(Budget.of(modules={"head": "1 MAC"}), idle) == [
        "'head' matches 1 module, 0 operators seen in any: did they run inside the test?"
    ]


def test_only_the_phase_counts():
    both = profile(("a", 100), row("a", 200, phase="backward"))
    assert texts(Budget.of("100 MAC", phase="forward"), both) == []
    assert texts(Budget.of("200 MAC", phase="backward"), both) == []
    assert texts(Budget.of("300 MAC", phase="training"), both) == []
    assert len(Budget.of("299 MAC").check(both)) == len(Budget.of("299 MAC", phase="training").check(both)) == 1
    assert texts(Budget.of("1 MAC", phase="prefill"), both) == [
        "0 operators seen in the phase 'prefill', only in forward, backward: does the test run it?"
    ]
    assert texts(Budget.of("1 kMAC", phase="training"), NET) == [
        "0 operators seen in the phase 'backward': does the test call backward()?"
    ]


def test_nothing_counted_is_no_success():
    assert texts(Budget.of("1 MAC"), Profile()) == ["0 operators seen: was the model run inside the test?"]
    assert texts(Budget.of("1 Mparam"), Profile()) == [
        "parameters are limited, and the count saw no model: pass model="
    ]


def test_an_uncounted_operator_fails_an_upper_bound_and_no_lower_one():
    odd = profile(("a", 100), row("b", 0, operator="mylib.odd.default", family="uncounted"))
    assert "mylib.odd.default (1 call)" in texts(Budget.of("1 kMAC"), odd)[0]
    assert len(Budget.of(exact="100 MAC").check(odd)) == 1
    assert texts(Budget.of(min="100 MAC"), odd) == []
    assert texts(Budget.of("1 kMAC", allow_uncounted=True), odd) == []
    assert texts(Budget.of("1 kMAC", allow_uncounted=["mylib.*"]), odd) == []
    assert len(Budget.of("1 kMAC", allow_uncounted=["other.*"]).check(odd)) == 1
    assert texts(Budget.of(modules={"a": "100 MAC"}), odd) == []
    assert len(Budget.of(modules={"b": "100 MAC"}).check(odd)) == 1
    assert texts(Budget.of("1 param"), odd) == []
    with pytest.warns(UncountedOperatorWarning, match="mylib.odd.default"):
        enforce(Budget.of(min="100 MAC"), odd, Watcher(), who="test_x")


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "expected at least one limit, got none"),
        (("1 MAC",), {"maximum": "2 MAC"}, "got the argument 'maximum'"),
        (("1 MAC",), {"max_speed": 2}, "got the argument 'max_speed'"),
        (
            (),
            {"min": "2 MAC", "max": "1 MAC"},
            "expected limits that a count can satisfy, got at least 2 MAC and 1 MAC",
        ),
        ((), {"modules": ["a"]}, "expected limits by module, such as"),
        (("1 MAC",), {"phase": ""}, "expected a phase such as 'forward' or 'training', got ''"),
        (("1 MAC",), {"phase": 3}, "got 3 of type int"),
        (("1 MAC",), {"metric": "speed"}, f"expected a metric out of {', '.join(UNITS)}, memory, got 'speed'"),
        (("1 MAC",), {"allow_uncounted": "mylib"}, "expected allow_uncounted to be True, False or patterns"),
        ((), {"max_macs": -1}, "expected a count from 0 up, got -1"),
        ((), {"max_macs": float("nan")}, "got nan of type float"),
        (("1 MAC",), {"rtol": -1}, "expected an rtol such as 0.01, got -1"),
    ],
)
def test_a_budget_that_cannot_be_read_is_refused(args, kwargs, message):
    with pytest.raises(BudgetError) as caught:
        Budget.of(*args, **kwargs, who="test_it: mine")
    assert message in str(caught.value)
    assert str(caught.value).startswith("test_it: mine: expected ")


def test_an_unknown_convention_is_refused():
    with pytest.raises(ConventionError, match="fvcroe"):
        Budget.of("1 FLOP", convention="fvcroe")


def test_the_time_of_a_check_is_linear_in_the_modules():
    def seconds(modules):
        wide = profile(*((f"layers.{i}", 1) for i in range(modules)))
        budget = Budget.of(modules={"layers.*": "1 MAC"})
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert budget.check(wide) == []
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(4000) < 30 * seconds(400)  # 10 times as many; it was 100 times as slow
