"""Traffic in reports, in files, in comparisons and in budgets."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from torch import nn

from opcount import OpCounter, Profile, flop_budget
from opcount.budget import Budget
from opcount.errors import BudgetError, BudgetExceededError, ProfileFormatError
from opcount.reporter import csv as csv_reporter
from opcount.reporter import diff_table, folded, html, markdown, operators, speedscope, table
from opcount.reporter.page.pack import pack, pack_diff
from tests.test_serialize import of_older_schema

MODEL = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
X = torch.ones(1, 10)
READ = 4 * ((10 * 20 + 20 + 10) + 20 + (20 * 5 + 5 + 20))
WRITTEN = 4 * (20 + 20 + 5)
MACS = 10 * 20 + 20 * 5


@pytest.fixture(scope="module")
def profile():
    with OpCounter(MODEL) as c:
        MODEL(X)
    return c.profile


@pytest.fixture(scope="module")
def old(profile):
    """The same count, as an older opcount has written it."""
    return Profile.from_json(of_older_schema(profile))


def test_the_numbers_are_on_everything_that_has_a_total(profile):
    totals = profile, profile.total, profile.by_module()[""], sum(profile.by_operator().values(), type(profile.total)())
    for total in totals:
        assert (total.bytes_read, total.bytes_written) == (READ, WRITTEN)
        assert total.arithmetic_intensity == 2 * MACS / (READ + WRITTEN)
    assert sum(r.bytes_read for r in profile.records) == READ
    assert sum(r.bytes for r in profile.records) == WRITTEN == profile.total.bytes
    rows = profile.to_rows()
    assert sum(row["bytes_read"] for row in rows) == READ
    assert sum(row["bytes_written"] for row in rows) == sum(row["bytes"] for row in rows) == WRITTEN
    assert set(rows[0]) == set(profile.columns)


def test_tables_have_columns_of_bytes_on_request(profile):
    names = ["read", "written", "traffic", "intensity"]
    for render in (table.render, markdown.render):
        text = render(profile, columns=names)
        assert "1.500 kB" in text
        assert f"{WRITTEN} B" in text
        assert "1.680 kB" in text
        assert f"{2 * MACS / (READ + WRITTEN):.4g}" in text
        assert "FLOP/B" not in render(profile)


def test_the_table_of_operators_says_what_is_read_and_written(profile):
    text = operators.render(profile)
    assert text.splitlines()[0].split()[-2:] == ["read", "written"]
    assert "1.420 kB" in text


def test_an_explanation_names_the_bytes(profile):
    text = profile.explain("0")
    assert "    920 bytes read, 80 written; 0.4 FLOPs/byte" in text.splitlines()
    assert text.splitlines()[-2] == "920 bytes read, 80 written; 0.4 FLOPs/byte"
    assert "80 bytes read, 80 written" in profile.explain("1").splitlines()


def test_a_spreadsheet_has_both(profile):
    rows = list(csv.DictReader(io.StringIO(csv_reporter.render(profile))))
    assert sum(int(row["bytes_read"]) for row in rows) == READ
    assert sum(int(row["bytes_written"]) for row in rows) == WRITTEN


def test_flame_graphs_may_show_bytes(profile):
    sums = {
        metric: sum(int(line.split()[-1]) for line in folded.render(profile, metric).splitlines())
        for metric in ("bytes_read", "bytes_written", "traffic")
    }
    assert sums == {"bytes_read": READ, "bytes_written": WRITTEN, "traffic": READ + WRITTEN}
    views = {view["name"]: view for view in json.loads(speedscope.render(profile))["profiles"]}
    assert views["bytes_read"]["endValue"] == READ
    assert views["bytes_read"]["unit"] == views["traffic"]["unit"] == "bytes"


def test_the_page_measures_modules_by_bytes_and_has_operators_that_only_move_them(profile):
    with OpCounter() as c:
        torch.cat([X, X + 1])
    assert sum(pack(c.profile)["records"]["traffic"]) == c.total.traffic == 80 + 160
    assert sum(pack(profile)["records"]["traffic"]) == READ + WRITTEN
    assert "Bytes read and written" in html.render(profile)


def test_a_comparison_may_be_of_bytes(profile):
    wider = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 6))
    with OpCounter(wider) as c:
        wider(X)
    diff = profile.diff(c.profile)
    assert diff.total.values("bytes_read") == (READ, READ + 4 * 21)
    assert diff.total.values("traffic") == (READ + WRITTEN, READ + WRITTEN + 4 * 22)
    text = diff_table.render(diff, "bytes_read")
    assert "1.500 k" in text
    assert "1.584 k" in text


def test_a_count_of_an_older_version_has_what_it_has_and_says_what_it_lacks(profile, old):
    assert old.bytes_written == WRITTEN
    assert old.total.bytes == WRITTEN
    assert "read" not in operators.render(old).splitlines()[0].split()
    assert "bytes read" not in old.explain("0")
    assert "traffic" not in pack(old)["records"]
    assert "traffic" not in pack_diff(old, profile)["records"]
    assert [view["name"] for view in json.loads(speedscope.render(old))["profiles"]][-1] == "bytes"
    diff = old.diff(profile)
    assert not diff.changed
    for refused in (
        lambda: table.render(old, columns=["read"]),
        lambda: table.render(old, columns=["intensity"]),
        lambda: table.render(old, sort="bytes_read"),
        lambda: folded.render(old, "traffic"),
        lambda: diff_table.render(diff, "bytes_read"),
        lambda: Budget.of(max_traffic="1 GB").check(old),
    ):
        with pytest.raises(ProfileFormatError, match=r"older opcount .*Count again\."):
            refused()
    assert not Budget.of("1 GMAC").check(old)


def test_a_budget_may_be_of_bytes_whose_metric_is_named(profile):
    whole = READ + WRITTEN
    assert not Budget.of(max_traffic="1.68 kB", exact_bytes_read=READ, max_bytes_written="1 KiB").check(profile)
    assert not Budget.of("1.68 kB", metric="traffic").check(profile)
    assert not Budget.of(modules={"0": {"max_traffic": "1 kB"}}).check(profile)
    verdict = Budget.of(max_traffic=whole - 1).check(profile)
    assert str(verdict.error("test")).startswith(
        "test: limited to 1.679 kB, counted 1.680 kB (+0.1 %). Biggest spenders: 0: 1.000 kB (59.5 %)"
    )
    assert "traffic of the biggest modules" in verdict.error("test").evidence


def test_bytes_without_a_metric_are_refused():
    with pytest.raises(BudgetError, match=r"Name the metric: max_bytes_read='1\.2 GB' or .* or max_traffic='1\.2 GB'"):
        Budget.of("1.2 GB")
    with pytest.raises(BudgetError, match="which counts bytes_read or bytes_written or traffic"):
        Budget.of(max_macs="1.2 GB")
    with pytest.raises(BudgetError, match="which counts macs"):
        Budget.of(max_traffic="1.2 GMAC")
    with pytest.raises(BudgetError, match="got the argument 'max_bytes'"):
        Budget.of(max_bytes="1 GB")


@pytest.mark.parametrize(("text", "count"), [("1 GB", 10**9), ("1 GiB", 2**30), ("1.5 KiB", 1536), ("7 B", 7)])
def test_decimal_and_binary_prefixes_are_told_apart(text, count):
    (limit,) = Budget.of(max_traffic=text).limits
    assert limit.count == count


def test_binary_prefixes_are_for_bytes_alone():
    with pytest.raises(BudgetError, match="The units are"):
        Budget.of("4 GiMAC")


@pytest.mark.filterwarnings("ignore::opcount.errors.UncountedOperatorWarning")
def test_operators_without_a_formula_keep_no_bound_of_bytes_from_holding():
    library = torch.library.Library("traffic15c", "DEF")
    library.define("h(Tensor x) -> Tensor")
    library.impl("h", lambda x: torch.from_numpy(x.numpy() + 1), "CPU")
    with flop_budget(max_traffic=80):
        torch.ops.traffic15c.h(X)
    with pytest.raises(BudgetExceededError), flop_budget(max_traffic=79):
        torch.ops.traffic15c.h(X)
    library._destroy()
