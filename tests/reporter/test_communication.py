"""Communication in every report, in budgets and in comparisons."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opcount import Profile, flop_budget
from opcount.budget import Budget
from opcount.cost import Cost
from opcount.errors import BudgetExceededError
from opcount.records import Collective, Module, Record
from opcount.reporter import communication, csv, diff_table, folded, html, markdown, module_columns, outline, table


def gather(path, size, issued=None, group="fsdp"):
    sent = Collective("all-gather", group, 4, issued, size)
    return Record(
        ("", path), "c10d._allgather_base_.default", "collective", "forward", "float32", 1, Cost(), collective=sent
    )


MODULES = {path: Module(path, "Linear", 100) for path in ("", "a", "b")}
PROFILE = Profile(
    (gather("a", 4000), gather("b", 8000, "a"), gather("b", 400, None, "tp")), MODULES, groups={"tp": (0, 1, 2, 3)}
)


TABLES = """\
group  ranks  collective  calls    payload  % payload       bus
---------------------------------------------------------------
fsdp       4  all-gather      2  12.000 kB     96.8 %  9.000 kB
tp         4  all-gather      1      400 B      3.2 %     300 B

phase    calls    payload  % payload       bus
----------------------------------------------
forward      3  12.400 kB    100.0 %  9.300 kB

module  calls    payload  % payload       bus  calls that it ran
----------------------------------------------------------------
(all)       3  12.400 kB    100.0 %  9.300 kB                  3
  a         1   4.000 kB     32.3 %  3.000 kB                  2
  b         2   8.400 kB     67.7 %  6.300 kB                  1

communication: 12.400 kB of payload, 9.300 kB over the link: fsdp all-gather 12.000 kB in 2 calls, \
tp all-gather 400 B in 1 call"""


def test_the_table_says_what_was_sent_in_which_group_and_for_which_module():
    assert communication.render(PROFILE) == TABLES


def test_every_report_shows_it_and_says_nothing_where_nothing_was_sent():
    line = "communication: 12.400 kB of payload, 9.300 kB over the link"
    for render in (table.render, markdown.render):
        assert line in render(PROFILE)
        assert "communication" not in render(Profile(modules=MODULES))
    rows = csv.render(PROFILE).splitlines()
    assert rows[0].endswith(",shapes,collective,group,ranks,issued,buffer_bytes,bus_bytes")
    assert rows[2].endswith(",all-gather,fsdp,4,a,8000,6000")
    assert "buffer_bytes" not in csv.render(Profile(modules=MODULES))
    assert '"buffer_bytes"' in html.render(PROFILE)
    assert folded.render(PROFILE, metric="bus_bytes").splitlines()[0].endswith(" 3000")
    columns = module_columns.columns_of(PROFILE, list(outline.outline(PROFILE)), ["buffer", "bus"])
    whole, *_ = outline.outline(PROFILE)
    assert [column.cell(whole) for column in columns] == [
        "12.400 kB",
        "9.300 kB",
    ]


def test_a_profile_comes_back_from_a_file_and_older_files_have_none():
    again = Profile.from_json(PROFILE.to_json())
    assert again == PROFILE
    assert again.communication.by_module() == PROFILE.communication.by_module()
    assert '"schema": 7' in PROFILE.to_json()
    assert '"schema": 3' in Profile(modules=MODULES).to_json()


def test_sums_and_selections_of_profiles_have_those_of_their_parts():
    assert (PROFILE + PROFILE).communication.total.buffer_bytes == 2 * 12400
    assert PROFILE.select(lambda record: record.path == "a").communication.total == (1, 4000, 3000)
    other = replace(PROFILE, groups={"tp": (4, 5, 6, 7), "dp": (0, 4)})
    assert (PROFILE + other).groups == {"dp": (0, 4)}  # the groups of two ranks that are both called tp


def test_a_comparison_says_which_group_sends_more():
    more = replace(PROFILE, records=(*PROFILE.records, gather("a", 1600, None, "tp")))
    text = table_of_diff(PROFILE, more)
    assert "buffer_bytes: 12.400 k -> 14.000 k (+12.9 %)" in text
    assert "  tp (4 ranks) all-gather: 400 B in 1 call -> 2.000 kB in 2 calls" in text
    assert "fsdp" not in text
    assert "communication" not in table_of_diff(PROFILE, PROFILE)


def table_of_diff(before, after):
    return diff_table.render(before.diff(after), "buffer_bytes")


def test_budgets_bound_the_payload_of_the_whole_and_of_modules():
    assert not Budget.of(comm="12.4 kB").check(PROFILE)
    (failure,) = Budget.of(comm="12 kB").check(PROFILE)
    assert "limited to 12.000 kB, counted 12.400 kB (+3.3 %)" in failure.text
    assert not Budget.of(max_bus_bytes="9.3 kB", modules={"b": {"comm": "8.4 kB"}}).check(PROFILE)
    assert Budget.of(max_bus_bytes="9 kB").check(PROFILE)


def test_a_budget_of_no_bytes_holds_where_nothing_is_sent():
    with flop_budget(comm=0) as c:
        torch.ones(3)
    assert not c.communication
    with pytest.raises(BudgetExceededError, match=r"Biggest spenders: b: 8\.400 kB"):
        raise Budget.of(comm="1 kB").check(PROFILE).error("test", None, 0)
