"""Readings across ranks: the sum of FLOPs over the sum of peaks, in processes that talk by gloo."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from opcount import Device
from opcount.reading import Reading, across_ranks
from opcount.utilization import Flops
from tests.shims import ROOT, child_environment

PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
from opcount import Meter
from opcount.errors import CounterStateError
from tests.meter.loops import meter_of, net, train

rank, size, store, skipping = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
model = net()
meter, now = meter_of(model, every=10)
for _ in range(0 if rank == skipping else 11):
    rows = 4 * (rank + 1)
    with meter.step(tokens=rows):
        train(model, rows)
        now.time += 1 + rank
try:
    reading = meter.read(all_ranks=True)
    rates = reading.seconds, reading.flops_per_second, reading.mfu
    print(json.dumps([reading.steps, reading.tokens, *rates, str(reading)]))
except CounterStateError as error:
    print(json.dumps(str(error)))
dist.destroy_process_group()
"""


def run(tmp_path, size, skipping=-1):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(tmp_path / "store"), str(skipping)],
            cwd=ROOT,
            env=child_environment(PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    return [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in ranks]


@pytest.mark.slow
def test_flops_and_peaks_of_all_ranks_are_added_and_the_slowest_sets_the_time(tmp_path):
    first, second = run(tmp_path, 2)
    assert first == second
    steps, tokens, seconds, rate, mfu, text = first
    # 11 steps of 4 and of 8 rows, 9 of them timed: the first and one of the next ten are counted
    assert (steps, tokens, seconds) == (11, 11 * 4 + 11 * 8, 9 * 2)
    product = 2 * 8 * 8
    assert rate == 9 * 2 * product * (4 + 8) / (9 * 2)
    assert mfu == pytest.approx(rate / (2 * 1e9))
    assert "of 2 x toy (float32 2 GFLOP/s" in text


@pytest.mark.slow
def test_an_error_of_one_rank_is_raised_on_all_which_would_wait_for_it_else(tmp_path):
    assert (
        run(tmp_path, 2, skipping=1)
        == ["Meter.read: no step has ended since the last reading. Run `with meter.step():`."] * 2
    )


def reading(device, flops, seconds=2.0, tokens=None):
    return Reading(10, 9, seconds, {name: Flops(*pair) for name, pair in flops.items()}, (device,), tokens, tokens)


def test_utilization_across_unlike_devices_is_the_sum_of_flops_over_the_sum_of_peaks():
    fast = Device(name="fast", peaks={"bf16": 3e12, "fp32": 1e12}, bandwidth=1e12)
    slow = Device(name="slow", peaks={"bf16": 1e12, "fp32": 0.5e12}, bandwidth=1e12)
    whole = across_ranks(
        [
            reading(fast, {"bfloat16": (3e12, 4e12), "float32": (1e12, 1e12)}),
            reading(slow, {"bfloat16": (1e12, 1e12)}, seconds=4.0),
        ]
    )
    assert whole.mfu == pytest.approx(((3e12 + 1e12) / 4e12 + 1e12 / 1.5e12) / 4)
    assert whole.hfu == pytest.approx(((4e12 + 1e12) / 4e12 + 1e12 / 1.5e12) / 4)
    assert whole.peaks == {"bfloat16": 4e12, "float32": 1.5e12}
    assert "of fast, slow" in str(whole)


def test_tokens_that_one_rank_does_not_tell_are_unknown():
    device = Device(name="d", peaks={"bf16": 1e12}, bandwidth=1e12)
    flops = {"bfloat16": (1e12, 1e12)}
    assert across_ranks([reading(device, flops, tokens=3), reading(device, flops)]).tokens_per_second is None
    assert across_ranks([reading(device, flops, tokens=3), reading(device, flops, tokens=5)]).tokens == 8
    assert across_ranks([reading(device, flops, tokens=3)]) == reading(device, flops, tokens=3)
