"""A profile of some steps of a loop: what is measured and what is extrapolated is never mixed up, and always said."""

import csv
import json
import pickle
from importlib import import_module

import pytest

from opcount.budget import Budget
from opcount.cli import main
from opcount.cli.formats import FORMATS
from opcount.convention import find_convention
from opcount.cost import Cost
from opcount.errors import BudgetError, ProfileFormatError, SamplingError
from opcount.profile import Module, Profile, Record
from opcount.reporter import csv as csv_reporter
from opcount.reporter import diff_table as diff_reporter
from opcount.reporter import folded, html
from opcount.steps import Amount, Spread, Steps

MM = Record(("", "fc"), "aten.mm.default", "matmul", "forward", "float32", 2, Cost(200, 10, 20), 80, "(2x5)")
GRAD = Record(("", "fc"), "aten.mm.default", "matmul", "backward", "float32", 4, Cost(400), 160)
WHOLE = Amount(
    (MM._replace(calls=20, cost=Cost(2100, 100, 200)), GRAD._replace(calls=40, cost=Cost(4000))),
    {"": 20, "fc": 21},
    {"lost": 10},
)
STEPS = Steps(20, 2, 1, Spread(Cost(310, 5), Cost(290, 5), Cost(310, 5)), WHOLE, Cost(30, 40))
PLAIN = Profile(
    (MM, GRAD), {p: Module(p, "M", 9, 2) for p in ("", "fc")}, provenance={"torch": "2"}, unattributed={"lost": 1}
)
SAMPLE = Profile(PLAIN.records, PLAIN.modules, provenance=PLAIN.provenance, unattributed={"lost": 1}, steps=STEPS)
ESTIMATE = SAMPLE.extrapolated()

MEASURED = "measured in 2 of 20 steps"
EXTRAPOLATED = "extrapolated from 2 to 20 steps"


def test_a_profile_holds_what_was_measured():
    assert (SAMPLE.macs, SAMPLE.arith, SAMPLE.activations, SAMPLE.total.calls) == (600, 10, 20, 6)
    assert SAMPLE.by_module()["fc"].macs == 600
    assert not SAMPLE.steps.extrapolated
    assert SAMPLE.steps.partial


def test_what_is_extrapolated_is_a_profile_of_its_own():
    assert (ESTIMATE.macs, ESTIMATE.arith, ESTIMATE.params) == (6100, 100, 9)
    assert {phase: total.macs for phase, total in ESTIMATE.by_phase().items()} == {"forward": 2100, "backward": 4000}
    assert (ESTIMATE.modules["fc"].calls, ESTIMATE.unattributed) == (21, {"lost": 10})
    assert ESTIMATE.steps.extrapolated
    assert ESTIMATE.extrapolated() is ESTIMATE
    assert PLAIN.extrapolated() is PLAIN


def test_another_convention_reads_both():
    assert SAMPLE.with_convention("full").flops == 2 * 600 + 10
    assert SAMPLE.with_convention("full").extrapolated().flops == 2 * 6100 + 100
    assert ESTIMATE.with_convention("full").flops == 2 * 6100 + 100


def test_a_selection_is_made_of_both():
    backward = SAMPLE.select(lambda record: record.phase == "backward")
    assert (backward.macs, backward.extrapolated().macs) == (400, 4000)
    assert ESTIMATE.select(lambda record: record.phase == "backward").macs == 4000


def test_two_loops_add_up_each_extrapolated_on_its_own():
    both = SAMPLE + SAMPLE
    assert (both.macs, both.extrapolated().macs) == (1200, 12200)
    assert (both.steps.total, both.steps.measured, both.steps.interrupted) == (40, 4, 2)
    assert (both.steps.spread, both.steps.error) == (STEPS.spread, Cost(round(30 * 2**0.5), round(40 * 2**0.5)))
    assert both.extrapolated() == ESTIMATE + ESTIMATE
    assert sum([SAMPLE, SAMPLE]) == both


def test_the_spread_of_two_loops_covers_both():
    other = Profile(steps=Steps(9, 1, 0, Spread(Cost(5), Cost(5), Cost(5)), Amount()))
    assert (SAMPLE + other).steps.spread == Spread(Cost(310, 5), Cost(5), Cost(310, 5))


@pytest.mark.parametrize("both", [SAMPLE + PLAIN, PLAIN + SAMPLE], ids=["first", "last"])
def test_what_was_counted_whole_is_as_much_when_extrapolated(both):
    assert (both.macs, both.extrapolated().macs) == (1200, 6100 + 600)
    assert both.extrapolated().modules["fc"].calls == 21 + 2
    assert both.extrapolated().unattributed == {"lost": 11}
    assert both.steps.verdict() == MEASURED
    assert both.steps.error == STEPS.error


@pytest.mark.parametrize("measured", [SAMPLE, PLAIN], ids=["some steps", "all"])
def test_measured_and_extrapolated_do_not_add_up(measured):
    for left, right in ((measured, ESTIMATE), (ESTIMATE, measured)):
        with pytest.raises(SamplingError, match=f"one that was measured and one {EXTRAPOLATED}"):
            left + right


@pytest.mark.parametrize("profile", [SAMPLE, ESTIMATE, SAMPLE + PLAIN, Profile(steps=Steps(whole=Amount()))])
def test_json_and_pickle_bring_back_what_was_written(profile):
    assert Profile.from_json(profile.to_json()) == profile
    assert pickle.loads(pickle.dumps(profile)) == profile  # noqa: S301


def test_only_older_versions_that_would_misread_a_file_are_kept_from_it():
    assert json.loads(PLAIN.to_json())["schema"] == 3
    assert "steps" not in json.loads(PLAIN.to_json())
    assert json.loads(SAMPLE.to_json())["schema"] == json.loads(ESTIMATE.to_json())["schema"] == 4


def test_a_file_of_schema_3_is_a_count_of_everything():
    text = json.dumps({**json.loads(PLAIN.to_json()), "steps": None})
    assert Profile.from_json(text) == PLAIN


@pytest.mark.parametrize("damage", [{"steps": None}, {"steps": {}}, {"steps": {"total": 1}}])
def test_a_damaged_file_is_refused(damage):
    text = json.dumps({**json.loads(SAMPLE.to_json()), **damage})
    with pytest.raises(ProfileFormatError, match="the profile is damaged"):
        Profile.from_json(text)


REPORTS = {
    **{name: import_module(f"opcount.reporter.{name}").render for name in FORMATS if name not in ("arch", "json")},
    "explain": lambda profile: profile.explain("fc"),
    "folded": lambda profile: folded.render(profile).replace("_", " "),
    "notebook": lambda profile: profile._repr_html_(),
    "diff": lambda profile: diff_reporter.render(PLAIN.diff(profile)),
    "markdown diff": lambda profile: diff_reporter.render_markdown(profile.diff(PLAIN)),
    "html diff": lambda profile: html.render(profile, baseline=PLAIN),
}


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_says_which_it_is(report):
    render = REPORTS[report]
    assert MEASURED in render(SAMPLE)
    assert EXTRAPOLATED in render(ESTIMATE)
    assert MEASURED not in render(ESTIMATE)
    assert "steps" not in render(PLAIN).replace("data-steps", "") or report in ("html", "notebook", "html diff")
    assert MEASURED not in render(PLAIN)
    assert EXTRAPOLATED not in render(PLAIN)


def test_the_table_tells_measured_and_extrapolated_apart():
    lines = str(SAMPLE).splitlines()
    assert f"total {MEASURED}: 600 MAC = 1.200 kFLOP at 2 per MAC, 20 activations, 9 parameters" in lines
    assert f"total {EXTRAPOLATED}: 6.100 kMAC = 12.200 kFLOP at 2 per MAC, 200 activations" in lines
    assert (
        "measured steps: from 290 MAC and 5 other operations to 310 MAC and 5 other operations; "
        "310 MAC and 5 other operations in the first"
    ) in lines
    assert "interrupted: 1 step, left out of the extrapolation" in lines
    assert "standard error of the extrapolation: 30 MAC and 40 other operations" in lines
    assert (
        f"total {EXTRAPOLATED}: 6.100 kMAC = 12.200 kFLOP at 2 per MAC, 200 activations, 9 parameters"
        in str(ESTIMATE).splitlines()
    )


def test_equal_steps_are_said_to_be_equal():
    equal = str(Profile(steps=Steps(20, 3, 0, Spread(Cost(7), Cost(7), Cost(7)), WHOLE, Cost())))
    assert "measured steps: 7 MAC and 0 other operations each\n" in equal
    assert "error" not in equal


def test_an_extrapolation_from_the_first_step_alone_is_said_to_be_one():
    first = Profile(steps=Steps(20, 1, 0, Spread(Cost(7), Cost(7), Cost(7)), WHOLE))
    text = "only the first step was measured: the others are taken to be like it"
    assert text in str(first)
    assert text in str(first.extrapolated())
    assert text not in str(SAMPLE)


def test_an_extrapolation_from_two_steps_does_not_pretend_to_know_its_error():
    two = Profile(steps=Steps(20, 2, 0, Spread(Cost(7), Cost(7), Cost(7)), WHOLE, None))
    text = "too few steps were measured to tell how far off the extrapolation may be"
    assert text in str(two)
    assert text not in str(SAMPLE)
    assert (two + SAMPLE).steps.error is None


def test_rows_have_a_column_that_says_which_they_are():
    assert {row["steps"] for row in SAMPLE.to_rows()} == {MEASURED}
    assert {row["steps"] for row in ESTIMATE.to_rows()} == {EXTRAPOLATED}
    assert "steps" not in PLAIN.to_rows()[0]
    assert list(SAMPLE.to_dataframe()["steps"]) == [MEASURED] * 2
    assert "steps" not in PLAIN.to_dataframe()
    assert [row["steps"] for row in csv.DictReader(csv_reporter.render(SAMPLE).splitlines())] == [MEASURED] * 2


def test_the_command_shows_which_it_is(tmp_path, capsys):
    for profile, words in ((SAMPLE, MEASURED), (ESTIMATE, EXTRAPOLATED)):
        file = tmp_path / "profile.json"
        file.write_text(profile.to_json())
        assert main(["show", str(file)]) == 0
        assert f"total {words}" in capsys.readouterr().out


@pytest.mark.parametrize("profile", [SAMPLE, ESTIMATE], ids=["measured", "extrapolated"])
def test_no_budget_holds_for_some_of_the_steps(profile):
    with pytest.raises(
        BudgetError, match=r"expected a count of all that ran, got one (measured|extrapolated).*every=1"
    ):
        Budget.of("1 GMAC").check(profile)


def test_a_budget_holds_for_all_of_the_steps():
    every_step = Profile(PLAIN.records, steps=Steps(2, 2, 0, STEPS.spread, WHOLE))
    assert not Budget.of("600 MAC").check(every_step)
    assert Budget.of("599 MAC").check(every_step)


def test_a_selection_keeps_the_convention_and_an_amount_its_parts():
    amount = SAMPLE.amount()
    assert amount.minus(amount) == Amount()
    assert amount.plus(amount).minus(amount) == amount
    assert amount.times(3, 2).cost == Cost(900, 15, 30)
    assert find_convention("fvcore") == SAMPLE.convention
