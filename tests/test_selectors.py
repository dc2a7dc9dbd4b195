"""Text that people write to choose has one meaning wherever it is written: budgets, plugin and command line."""

from __future__ import annotations

from argparse import ArgumentTypeError
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcount import Budget
from opcount.cli import parser as cli
from opcount.errors import BudgetError, InputError
from opcount.profile import Module, Profile
from opcount.pytest_plugin import options as plugin
from opcount.reporter.outline import outline
from opcount.selectors import UNITS, ModulePattern, Tolerance
from tests.budget.profiles import profile

NET = profile(("attn", 1), ("net.0.attn", 2), ("net.0.mlp.fc1", 4), ("net.10.mlp.fc1", 8))


@pytest.mark.parametrize(
    ("text", "share", "plus"),
    [
        ("macs:1%", Fraction(1, 100), 0),
        ("macs:0.5 %", Fraction(1, 200), 0),
        ("macs:1", 0, 1),  # a plain number is absolute: 1 % is written with its sign
        ("macs:1000", 0, 1000),
        ("macs:1_000", 0, 1000),
        ("macs:5 MMAC", 0, 5_000_000),
        ("macs:5k", 0, 5000),
        ("macs:0", 0, 0),
    ],
)
def test_a_tolerance_is_the_same_on_the_command_line_and_in_the_plugin(text, share, plus):
    for read in (Tolerance.parse, cli._tolerance, plugin._tolerance, plugin._increase):
        assert read(text) == Tolerance(("macs",), share, plus, text)


@pytest.mark.parametrize("text", "|macs|macs:|macs:%|macs:-1|macs:-1%|macs:1 FLOP|sizes:1%|1%".split("|"))
def test_what_is_no_tolerance_is_refused_everywhere_with_its_value(text):
    for read in (Tolerance.parse, cli._tolerance, plugin._tolerance):
        with pytest.raises((InputError, ArgumentTypeError), match="expected ") as caught:
            read(text)
        assert repr(text) in str(caught.value)


def test_a_tolerance_without_a_metric_is_about_all_that_it_may_be_about():
    assert plugin._increase("1000") == Tolerance(("macs", "flops"), 0, 1000, "1000")
    assert Tolerance.parse("arith:7", metrics=("arith",)).plus == 7


@given(st.integers(0, 10**20), st.integers(0, 10**20), st.sampled_from(list(UNITS)))
def test_a_tolerance_holds_up_to_its_bound_and_not_one_further(before, plus, metric):
    by = Tolerance.parse(f"{metric}:{plus} {UNITS[metric]}")
    assert by.allows(before, before + plus)
    assert not by.allows(before, before + plus + 1)
    assert Tolerance.parse(f"{metric}:50%").allows(2 * before, 3 * before)
    assert not Tolerance.parse(f"{metric}:50%").allows(2 * before, 3 * before + 1)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*", ["", "attn", "net"]),
        ("net.*", ["net.0", "net.10"]),
        ("net.?", ["net.0"]),
        ("net.[0-3].*", ["net.0.attn", "net.0.mlp"]),
        ("net.[!0]*", ["net.10"]),
        ("net[!0]0", []),  # a dot is in no set
        ("**.attn", ["attn", "net.0.attn"]),
        ("net.**.fc1", ["net.0.mlp.fc1", "net.10.mlp.fc1"]),
        ("**.mlp.**", ["net.0.mlp.fc1", "net.10.mlp.fc1"]),
        ("net.**", ["net.0", "net.0.attn", "net.0.mlp", "net.0.mlp.fc1", "net.10", "net.10.mlp", "net.10.mlp.fc1"]),
        ("net.0", ["net.0"]),
        ("net+0", []),
    ],
)
def test_a_pattern_names_the_same_modules_in_a_budget_and_in_a_report(pattern, paths):
    assert sorted(ModulePattern(pattern).find(NET)) == sorted(paths)
    shown = {line.path for line in outline(NET, modules=pattern, fold=False)}
    assert shown == {"", *paths, *(path.rsplit(".", n)[0] for path in paths for n in range(1, path.count(".") + 1))}
    if paths:
        failures = Budget.of(modules={pattern: {"max_activations": 0}}).check(NET)
        assert sorted(failure.path for failure in failures) == sorted(paths)
    else:
        with pytest.raises(BudgetError, match="which matches none"):
            Budget.of(modules={pattern: "0 ACT"}).check(NET)


@given(st.text(max_size=8))
def test_a_path_is_a_pattern_for_itself(path):
    assert ModulePattern(path).matches(path)


def test_aliases_and_paths_below_a_class_name_match_too():
    shared = Profile(modules={path: Module(path, "L", aliases=("b",) if path == "a" else ()) for path in ("", "a")})
    assert ModulePattern("b").find(shared) == ["a"]
    nameless = Profile(modules={path: Module(path, "L") for path in ("Net", "Net.fc")})
    assert ModulePattern("fc").find(nameless) == ModulePattern("Net.fc").find(nameless) == ["Net.fc"]
