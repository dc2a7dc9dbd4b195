"""The allocator's own account: what is inside kernels, apart from storages, whose peak and records stay as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from opcount import OpCounter, Profile
from opcount.cli import main
from opcount.errors import CounterStateError
from opcount.live_memory import AllocatorPeak, LiveMemory
from opcount.reporter.memory import memory_lines
from tests.memory.models import training
from tests.memory.truth import allocated


@pytest.mark.parametrize("name", ["resnet", "fused attention", "lstm", "sparse"])
def test_storages_and_what_is_inside_kernels_are_the_peak_of_the_profiler(name: str) -> None:
    allocated(training(name, "none")[2])  # what PyTorch makes once in a process
    truth = allocated(training(name, "none")[2])
    model, _, run = training(name, "none")
    with OpCounter(model, memory="allocator") as c:
        run()
    model, _, run = training(name, "none")
    with OpCounter(model, memory=True) as plain:
        run()
    peak = c.memory.allocator
    assert peak is not None
    assert c.memory.peak == plain.memory.peak == sum(record.bytes for record in c.memory.records)
    assert peak.bytes == c.memory.peak + peak.inside_kernels
    assert abs(peak.inside_kernels - (truth.peak - truth.between)) <= 64  # Python's numbers as tensors
    assert peak.inside_kernels > 1000 or name not in {"resnet", "lstm"}


def test_the_workspace_of_a_kernel_is_seen_to_the_byte() -> None:
    x = torch.randn(100_000)
    with OpCounter(memory="allocator") as c:
        x.unique()
    peak = c.memory.allocator
    truth = allocated(x.unique)
    assert peak is not None
    assert peak.bytes - x.nbytes == truth.peak


def test_what_was_alive_before_and_dies_inside_is_no_part_of_kernels() -> None:
    held = [torch.ones(1000, 1000)]
    with OpCounter(memory="allocator") as c:
        x = held[0] + 1
        held.clear()
        x = x + 1
        x = x * 2 + x
    assert c.memory.allocator is not None
    assert c.memory.allocator.inside_kernels == 0


def test_two_blocks_have_the_higher_peak() -> None:
    counter = OpCounter(memory="allocator")
    for size in (1000, 3000, 2000):
        with counter:
            torch.ones(size)
    assert counter.memory.allocator == AllocatorPeak(12000, 0)


def test_a_file_keeps_it_and_a_report_shows_it() -> None:
    memory = LiveMemory(allocator=AllocatorPeak(3_000_000, 1_000_000, 3_100_160, 20 << 20))
    assert Profile.from_json(Profile(memory=memory).to_json()).memory == memory
    lines = list(memory_lines(Profile(memory=memory)))
    assert lines[1] == (
        "peak of the allocator: 3.000 MB, 1.000 MB inside kernels; 3.100 MB in blocks, 20.972 MB reserved"
    )


def test_a_dry_run_and_a_running_profiler_are_refused() -> None:
    with pytest.raises(CounterStateError, match="expected a real run"), OpCounter(memory="allocator", dry_run=True):
        pass
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        with pytest.raises(CounterStateError, match="expected no running profiler"), OpCounter(memory="allocator"):
            pass
        nn.Linear(3, 4)(torch.ones(2, 3))
    assert any(event.name == "aten::linear" for event in profiler.events())


def test_the_command_line_asks_the_allocator_of_a_real_run(tmp_path, capsys) -> None:
    file = tmp_path / "net.py"
    file.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 8, 3)\ninput_shape = (3, 32, 32)\n")
    assert main(["count", str(file), "--real", "--kernels"]) == 0
    assert " inside kernels" in capsys.readouterr().out
    assert main(["count", str(file), "--kernels"]) == 2
    assert "expected it beside --real" in capsys.readouterr().err
