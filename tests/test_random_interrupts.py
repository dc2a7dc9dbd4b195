"""Signals at random moments of entering, counting and leaving leave behind nothing."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
import torch
from torch import nn

from opcount import OpCounter, flop_budget
from tests.interrupts import left

INTERRUPTS = int(os.environ.get("OPCOUNT_INTERRUPTS", "300"))
"""Runs of each program; 2,000 take a minute."""

MODEL = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU())
X = torch.ones(2, 3)


def entered_and_left():
    with OpCounter(MODEL):
        pass


def trained():
    with OpCounter(MODEL):
        MODEL(X).sum().backward()


def opened():
    with torch.inference_mode(), OpCounter(MODEL):
        MODEL(X)


def nested():
    with OpCounter(MODEL), OpCounter(every=3):
        MODEL(X)


def held_to_a_budget():
    with flop_budget("1 GMAC", model=MODEL):
        MODEL(X)


@pytest.fixture
def alarm():
    """Return what interrupts a program after so many seconds, and tells whether it did before a second was over."""

    def interrupt(_signal, _frame):
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt

    def run(program, seconds):
        end = time.monotonic() + 1
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            while time.monotonic() < end:
                program()
        except KeyboardInterrupt:
            return True
        return False

    before = signal.signal(signal.SIGALRM, interrupt)
    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt inside a destructor
@pytest.mark.parametrize("program", [entered_and_left, trained, opened, nested, held_to_a_budget])
def test_random_interrupts_leave_nothing_behind(alarm, program):
    program()
    program()
    start = time.perf_counter()
    program()
    duration = time.perf_counter() - start
    before, moments = left(), random.Random(0)
    came = 0
    for _ in range(INTERRUPTS):
        came += alarm(program, 1e-6 + moments.random() * 2 * duration)
        after = left()
        assert {name: (before[name], after.get(name)) for name in before if before[name] != after.get(name)} == {}
    assert came > 0.8 * INTERRUPTS  # Python drops those that come inside a destructor
    with OpCounter(MODEL) as c:
        MODEL(X)
    assert c.macs == 2 * 3 * 4
