"""Live bytes in profiles, files, reports, comparisons, budgets and on the command line."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from opcount import BudgetExceededError, OpCounter, Profile, flop_budget
from opcount.budget import Budget
from opcount.cli import main
from opcount.errors import BudgetError, CounterStateError, ProfileFormatError
from opcount.live_memory import CATEGORIES, LiveBytes, LiveMemory
from opcount.reporter.memory import memory_changes


def trained(batch: int = 4) -> Profile:
    """Return the count of a linear layer of 8 x 8, with a bias, trained by one step of momentum."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8)), torch.randn(batch, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, foreach=False)
    with OpCounter(model, memory=True) as c:
        model(x).sum().backward()
        optimizer.step()
    return c.profile


def test_each_category_has_its_bytes() -> None:
    memory = trained().memory
    weights = 4 * (8 * 8 + 8)
    assert memory.by_category() == {
        "parameters": weights,
        "gradients": weights,
        "optimizer state": weights,
        "inputs": 4 * 4 * 8,
    }
    assert memory.by_module() == {"": memory.peak, "0": 3 * weights}
    assert memory.by_phase() == {"before": weights + 128, "backward": weights, "optimizer": weights}
    assert set(memory.phase_peaks) == {"forward", "backward", "optimizer"}
    # forward: weights, the input, the output, the sum
    assert memory.phase_peaks["forward"] == weights + 128 + 128 + 4
    assert set(memory.by_category()) <= set(CATEGORIES)


def test_saved_activations_are_those_of_forward_that_backward_finds() -> None:
    x = torch.ones(100, requires_grad=True)
    with OpCounter(memory=True) as c:
        x.exp().sin().sum().backward()
    # exp keeps its result, sin its argument, which is the same; sum keeps nothing; x is the leaf; 4 are the seed
    assert c.memory.by_category()["saved activations"] == 404


def test_an_outputs_bytes_are_the_callers() -> None:
    model = nn.Linear(8, 8)
    with torch.no_grad(), OpCounter(model, memory=True) as c:
        model(torch.ones(2, 8))
    assert c.memory.by_category()["outputs"] == 2 * 8 * 4


def test_entering_again_and_adding_keep_the_higher_peak() -> None:
    small, large = trained(1), trained(64)
    assert (small + large).memory.peak == (large + small).memory.peak == large.memory.peak
    assert (small + Profile()).memory == small.memory
    with OpCounter(memory=True) as c:
        torch.ones(100)
    with c:
        torch.ones(10)
    assert c.memory.peak == 400
    c.reset()
    with c:
        torch.ones(10)
    assert c.memory.peak == 40


def test_a_reset_inside_takes_what_is_alive_for_the_start() -> None:
    with OpCounter(memory=True) as c:
        kept = torch.ones(50)
        torch.ones(1000)
        c.reset()
        torch.ones(10)
    assert c.memory.peak == kept.nbytes + 40


def test_copies_and_files_have_the_same_memory() -> None:
    profile = trained()
    text = profile.to_json()
    assert json.loads(text)["schema"] == 5
    assert Profile.from_json(text) == profile == pickle.loads(pickle.dumps(profile))  # noqa: S301
    assert "memory" not in json.loads(replace(profile, memory=None).to_json())
    with OpCounter(memory=True) as c:
        torch.ones(7)
    assert copy.deepcopy(c).memory == c.memory


def test_a_file_whose_records_miss_the_peak_is_damaged() -> None:
    data = json.loads(trained().to_json())
    data["memory"]["peak"] += 1
    with pytest.raises(ProfileFormatError, match="the sum of its records"):
        Profile.from_json(json.dumps(data))


def test_memory_that_nobody_tracks_is_an_error_with_a_remedy() -> None:
    with OpCounter() as c:
        torch.ones(1)
    assert c.profile.memory is None
    with pytest.raises(CounterStateError, match=r"memory=True"):
        _ = c.memory
    with pytest.raises(BudgetError, match="memory=True"):
        Budget.of(memory="1 GB").check(c.profile)


def test_gigabytes_are_no_gibibytes() -> None:
    assert Budget.of(memory="1.5 GB").limits[0].count == 1_500_000_000
    assert Budget.of(max_memory="1.5 GiB").limits[0].count == 1_610_612_736
    with pytest.raises(BudgetError, match="counts macs"):
        Budget.of(memory="1 GMAC")
    with pytest.raises(BudgetError, match="max_memory="):
        Budget.of("1 GB")


def test_a_budget_says_what_is_alive() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(BudgetExceededError) as caught, flop_budget(memory="100 B", model=model):
        model(torch.ones(4, 8)).sum().backward()
    assert "limited to 100 B, counted" in str(caught.value)
    assert "Alive at the peak: " in str(caught.value)
    with flop_budget(memory="1 MB", model=model) as c:
        model(torch.ones(4, 8))
    assert c.memory.peak < 1_000_000


def test_a_budget_may_be_of_a_phase_and_of_modules() -> None:
    profile = trained()
    peak = profile.memory.phase_peaks["forward"]
    assert not Budget.of(exact_memory=peak, phase="forward").check(profile)
    assert not Budget.of(modules={"0": {"exact_memory": 3 * 288}}).check(profile)
    assert Budget.of(modules={"0": {"max_memory": 3 * 288 - 1}}).check(profile)


def test_a_marker_bounds_memory(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.mark.flop_budget(memory="400 B")
        def test_within():
            torch.ones(100)

        @pytest.mark.flop_budget(memory="399 B")
        def test_beyond():
            torch.ones(100)
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*limited to 399 B, counted 400 B*"])


def test_reports_show_the_peak_and_whose_it_is(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    profile = trained()
    assert "peak of live bytes on cpu: 992 B: parameters 288 B" in str(profile)
    stored = tmp_path / "a.json"
    profile.save(stored)
    assert main(["show", str(stored), "--format", "memory"]) == 0
    shown = capsys.readouterr().out
    assert "optimizer state        288 B  29.0 %" in shown
    replace(profile, memory=None).save(stored)
    assert main(["show", str(stored), "--format", "memory"]) == 2
    assert "--memory" in capsys.readouterr().err


def test_a_diff_says_which_bytes_grew(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    for name, batch in (("a", 4), ("b", 8)):
        trained(batch).save(tmp_path / f"{name}.json")
    assert main(["diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    shown = capsys.readouterr().out
    assert "peak of live bytes: 992 B -> 1.120 kB (+128 B)" in shown
    assert "+128 B inputs in (all)" in shown


def test_a_change_names_the_modules_that_made_it() -> None:
    def memory(size: int, *more: LiveBytes) -> LiveMemory:
        rows = [
            LiveBytes(f"layers.{i}.mlp", "aten.gelu.default", "forward", "saved activations", size) for i in range(32)
        ]
        return LiveMemory(32 * size + sum(row.bytes for row in more), (*rows, *more))

    head = LiveBytes("head", "aten.mm.default", "forward", "saved activations", 8000)
    assert memory_changes(memory(1000), memory(2000))[1:] == ["  +32.000 kB saved activations in layers.0-31"]
    grown = memory_changes(memory(1000), memory(2000, head))
    assert grown[1:] == ["  +40.000 kB saved activations, +32.000 kB of it in layers.0-31"]


def test_the_command_line_tracks_a_dry_run(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    net = tmp_path / "net.py"
    net.write_text("from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(8, 8))\n")
    words = ["count", f"{net}:build", "--input", "4x8:float32", "--train", "--optimizer", "SGD"]
    assert main([*words, "--memory"]) == 0
    assert "peak of live bytes: " in capsys.readouterr().out
    assert main([*words, "--format", "memory"]) == 0
    assert "gradients" in capsys.readouterr().out
    assert main(words) == 0
    assert "live bytes" not in capsys.readouterr().out


def test_memory_is_read_without_its_parts() -> None:
    memory = LiveMemory(8, (LiveBytes("a.b", "aten.mm.default", "forward", "temporaries", 8),))
    assert memory.by_module() == {"": 8, "a": 8, "a.b": 8}
    assert memory.by_operator() == {"aten.mm.default": 8}
    assert memory.select(lambda record: record.path == "c") == {}


def test_parameters_of_no_model_belong_to_the_module_that_first_used_them() -> None:
    layer = nn.Linear(8, 8)
    with torch.no_grad(), OpCounter(memory=True) as c:
        layer(torch.ones(2, 8))
    assert c.memory.by_category()["parameters"] == 4 * (8 * 8 + 8)
    assert c.memory.by_module()["Linear"] >= 4 * (8 * 8 + 8)
