"""Logs of allocations: what is recorded is what happened, steps that repeat are left out, and files keep it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from opcount import OpCounter, Profile
from opcount.errors import ProfileFormatError
from opcount.fit import AllocationLog
from opcount.fit.allocations import Replay
from opcount.live_memory import LiveMemory
from opcount.memory import recording
from opcount.memory.recording import AllocationRecorder

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["made", "found", "freed", "resized", "restart"]), st.integers(0, 9), st.integers(0, 4096)
    ),
    max_size=60,
)


def played(log: AllocationLog) -> tuple[list[int], list[int]]:
    """Return the sizes that are alive after each event, and those at the end, in order."""
    alive: list[int | None] = []
    before: list[int | None] = list(log.before)
    sums = []
    for event in log:
        if event > 0:
            alive.append(event)
        elif event == 0:
            pass
        elif event % 2 == 0:
            assert before[-1 - event // 2] is not None
            before[-1 - event // 2] = None
        else:
            at = len(alive) - 1 - (-1 - event) // 2
            assert alive[at] is not None
            alive[at] = None
        sums.append(sum(size or 0 for size in (*before, *alive)))
    return sums, sorted(size for size in (*before, *alive) if size is not None)


@given(ACTIONS)
def test_a_log_is_what_happened(actions: list[tuple[str, int, int]]) -> None:
    recorder, alive, sums = AllocationRecorder(), dict[int, int](), list[int]()
    for what, address, size in actions:
        if what in {"made", "found"} and address not in alive:
            getattr(recorder, what)(address, size)
            alive[address] = size
        elif what == "freed" and address in alive:
            recorder.freed(address)
            del alive[address]
        elif what == "resized" and address in alive:
            recorder.resized(address, size)
            alive[address] = size
        elif what == "restart":
            recorder.restart()
            sums.clear()
        sums.append(sum(alive.values()))
    log = recorder.log()
    assert not log.find_fault()
    happened, end = played(log)
    assert end == sorted(size for size in alive.values() if size)
    assert log.replay().requested >= max([sum(log.before), *happened])
    assert log.replay() == log.replay()


STEP = st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 20)), min_size=1, max_size=12)


@given(STEP, st.integers(4, 9), st.integers(0, 3))
def test_steps_that_repeat_are_left_out_and_the_replay_has_the_same_end(
    step: list[tuple[int, int]], steps: int, later: int
) -> None:
    def run(*, ends: bool) -> AllocationLog:
        recorder, dying, address = AllocationRecorder(), dict[int, list[int]](), 0
        recorder.found(-1, 700)
        for now in range(steps * len(step)):
            for old in dying.pop(now, []):
                recorder.freed(old)
            size, age = step[now % len(step)]
            recorder.made(address, size)
            dying.setdefault(now + 1 + age, []).append(address)
            address += 1
            if ends and not (now + 1) % len(step):
                recorder.end_step()
        for _ in range(later):
            recorder.made(address, 5 << 20)
            address += 1
        return recorder.log()

    whole, short = run(ends=False), run(ends=True)
    assert not short.find_fault()
    assert played(short)[1] == played(whole)[1]
    assert short.replay() == whole.replay()
    longest = max(age for _, age in step)
    if longest < len(step):
        assert short.repeats >= steps - 6
        assert len(short) <= 12 * len(step) + later


def test_a_log_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_LIMIT", 10)
    recorder = AllocationRecorder()
    for address in range(25):
        recorder.made(address, 512)
    for address in range(25):
        recorder.freed(address)
    log = recorder.log()
    assert (log.cut, len(log)) == (15, 20)
    assert played(log)[1] == []


def test_a_replay_is_that_of_the_program() -> None:
    log = AllocationLog.of([512], [1 << 20, 3 << 20, -3, -1, -2])  # frees the first, the second, what was before
    assert log.replay() == Replay(512 + (4 << 20), 512 + (4 << 20), 22 << 20, 0, fits=True)
    assert log.replay(capacity=20 << 20).fits is False
    workspaces = log.replay(workspaces=[8 << 20])
    assert workspaces.requested == 512 + (12 << 20)
    assert workspaces.reserved == 22 << 20  # the workspace and the 3 MiB share a segment
    between = AllocationLog.of([], [30 << 20, -1, 0, 16 << 20])  # the workspace takes a part of the 30 MiB
    assert between.replay(workspaces=[16 << 20]).reserved == (30 + 16) << 20
    assert between.replay().reserved == 30 << 20
    assert between.replay(workspaces=[16 << 20, 11 << 20]).reserved == (12 + 30 + 16) << 20  # the second: at the start


def trained(**settings: Any) -> OpCounter:
    """Return a count of six training steps."""
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    x = torch.randn(128, 64)
    with OpCounter(model, **settings) as c:
        for _ in range(6):
            model(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    return c


@pytest.mark.parametrize("dry", [False, True])
def test_the_log_of_a_training_has_its_peak_and_not_all_of_its_steps(dry: bool) -> None:
    memory = trained(memory="log", dry_run=dry).memory
    assert memory.log is not None
    assert memory.log.workspaces == 2  # of forward and of backward
    assert memory.log.replay().requested == memory.peak == trained(memory=True).memory.peak
    assert memory.log.repeats == 2  # the first makes the state; of the four to five after it that are alike, three stay
    assert not memory.log.find_fault()


def test_a_log_is_kept_in_a_file_and_faults_in_it_are_found() -> None:
    profile = trained(memory="log").profile
    text = profile.to_json()
    assert '"schema": 6' in text
    again = Profile.from_json(text)
    assert again.memory == profile.memory
    assert again.fits("L4") == profile.fits("L4")
    assert profile.memory is not None
    faulty = replace(profile, memory=replace(profile.memory, log=AllocationLog.of([], [512, -1, -1])))
    with pytest.raises(ProfileFormatError, match="allocations that a program can make"):
        Profile.from_json(faulty.to_json())


def test_an_empty_log_is_kept() -> None:
    profile = Profile(memory=LiveMemory(log=AllocationLog()))
    assert Profile.from_json(profile.to_json()) == profile


def test_without_a_log_a_file_has_the_older_schema() -> None:
    profile = trained(memory=True).profile
    assert '"schema": 5' in profile.to_json()
    assert Profile.from_json(profile.to_json()).memory == profile.memory


def test_something_else_than_a_log_is_refused() -> None:
    with pytest.raises(ValueError, match="expected memory=True, False, 'log' or 'allocator', got 'logs'"):
        OpCounter(memory="logs")
