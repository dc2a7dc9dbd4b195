"""The general table, of profiles made by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opcount.convention import find_convention
from opcount.cost import Cost
from opcount.profile import Module, Profile, Record
from opcount.reporter.table import render


def record(*stack, phase="forward", family="matmul", operator="aten.mm.default", **cost):
    return Record(("", *stack), operator, family, phase, "float32", 1, Cost(**cost))


def profile(records, modules=()):
    return Profile(records=tuple(records), modules={m.path: m for m in modules})


NET = [
    Module("", "Net", 25_557_032, 1),
    Module("stem", "Conv2d", 9408, 1),
    Module("act", "ReLU", 0, 1),
    Module("blocks", "ModuleList", 25_000_000, 0),
    Module("blocks.0", "Block", 25_000_000, 2),
    Module("blocks.0.inner", "Linear", 25_000_000, 2),
    Module("blocks.0.inner.deep", "Linear", 5, 2),
    Module("aux", "Linear", 547_624, 0),
]
WORK = [
    record("stem", family="conv", operator="aten.convolution.default", macs=999_999, activations=2048),
    record("blocks.0", "blocks.0.inner", macs=3_000_001, arith=7, activations=10),
]


def test_modules_totals_convention_and_coverage_are_printed():
    assert render(profile(WORK, NET)) == "\n".join(
        [
            "module       type           params       MACs  activations   % MACs",
            "-------------------------------------------------------------------",
            "model        Net          25.557 M    4.000 M      2.058 k  100.0 %",
            "  stem       Conv2d        9.408 k  999.999 k      2.048 k   25.0 %",
            "  blocks     ModuleList   25.000 M    3.000 M           10   75.0 %",
            "    0        Block        25.000 M    3.000 M           10   75.0 %",
            "      inner  Linear       25.000 M    3.000 M           10   75.0 %",
            "  aux        Linear      547.624 k          -            -        -",
            "",
            "total: 4.000 MMAC = 8.000 MFLOP at 2 per MAC, 2.058 k activations, 25.557 M parameters",
            "convention: fvcore (" + find_convention("fvcore").summary + ")",
            "coverage: every operator is accounted for",
        ]
    )


@pytest.mark.parametrize(("depth", "rows"), [(0, 1), (1, 4), (2, 5), (3, 6), (4, 7), (99, 7)])
def test_modules_below_the_depth_are_left_out(depth, rows):
    assert len(render(profile(WORK, NET), depth).split("\n\n")[0].splitlines()) == 2 + rows


def test_a_module_with_no_number_and_no_child_with_one_is_left_out():
    assert "act" not in render(profile(WORK, NET)).split("\n\n")[0].replace("activations", "")


def test_the_smallest_share_of_the_largest_total_is_not_nothing():
    text = render(profile([record("a", macs=1), record("b", macs=10**15)]))
    assert "<0.1 %" in text
    assert ">99.9 %" in text
    assert "0.0 %" not in text.replace("100.0 %", "")


def test_work_outside_a_model_stands_under_the_classes_that_ran():
    text = render(profile([record("Net.Linear", macs=5)]))
    assert [line.split()[0] for line in text.splitlines()[2:5]] == ["model", "Net", "Linear"]


def test_phases_are_printed_when_there_are_several():
    text = render(profile([record(macs=5), record(phase="backward", macs=10)]))
    assert "phases: forward 5 MAC, backward 10 MAC" in text
    assert "phases" not in render(profile([record(macs=5)]))


def test_another_convention_is_read_and_named():
    text = render(profile(WORK, NET).with_convention("full"))
    assert "total: 4.000 MMAC = 8.000 MFLOP at 2 per MAC (8.000 MFLOP under full)" in text
    assert "convention: full" in text


def test_operators_that_nothing_explains_are_named():
    text = render(profile([record(family="uncounted", operator="mylib.f.default"), record(macs=3)]))
    assert text.endswith("1 operator has no formula, so the total is a lower bound: mylib.f.default (1 call)")


def test_flops_bear_the_name_of_their_convention_and_stand_only_where_they_are_others_than_the_macs():
    norm = record("stem", operator="aten.native_batch_norm.default", family="norm", arith=2000)
    counted = profile([*WORK, norm], NET)
    header, _, first, *_ = render(counted).splitlines()
    assert header.split("  ")[-3:] == ["FLOPs (fvcore)", "activations", "% FLOPs"]
    assert "4.002 M" in first  # 3,000,001 + 999,999 + 2,000
    assert "total: 4.000 MMAC = 8.000 MFLOP at 2 per MAC (4.002 MFLOP under fvcore), " in render(counted)
    torch = render(counted.with_convention("torch"))
    assert "FLOPs (torch)" in torch.splitlines()[0]
    assert "total: 4.000 MMAC = 8.000 MFLOP at 2 per MAC, " in torch
    assert "FLOPs (" not in render(counted.with_convention("macs"))


def test_a_column_of_zeros_is_hidden():
    text = render(profile([record("a", phase="backward", macs=5)]))
    assert text.splitlines()[0].split() == ["module", "type", "MACs", "%", "MACs"]
    assert "activations" not in text
    assert "parameters" not in text


def test_a_phase_of_other_arithmetic_alone_is_not_said_to_be_nothing():
    step = record(phase="optimizer", operator="aten._foreach_add_.List", family="elementwise", arith=70)
    text = render(profile([record(macs=5), step]))
    assert "phases: forward 5 MAC, optimizer 70 other operations" in text
    assert "phases under full: forward 10 FLOP, optimizer 70 FLOP" in render(
        profile([record(macs=5), step]).with_convention("full")
    )
    assert "total: 0 MAC, 70 other operations\n" in render(profile([step]))
    assert "total: 0 MAC, 70 FLOP under full\n" in render(profile([step]).with_convention("full"))


def test_an_empty_profile_prints():
    assert "total: 0 MAC\n" in render(Profile())


def test_no_report_needs_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from opcount.profile import Profile\n"
        "from opcount.reporter import arch, complexity_table, numbers, table\n"
        "print(table.render(Profile()))"
    )
    assert "coverage" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
