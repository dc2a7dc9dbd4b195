"""Clocks: a device is waited for when it is read, and never in a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import Meter
from opcount.clocks import EventClock, HostClock, clock_of
from tests.meter.loops import DEVICE, net, train


class Stream:
    """A device that runs behind the host: events come to pass when it is waited for."""

    def __init__(self):
        self.queued = 0.0
        self.reached = 0.0
        self.waits = 0
        self.records = 0

    def run(self, seconds):
        """Queue work."""
        self.queued += seconds

    def record(self):
        self.records += 1
        return Event(self)


class Event:
    def __init__(self, stream):
        self.stream = stream
        self.at = stream.queued

    def query(self):
        return self.at <= self.stream.reached

    def synchronize(self):
        self.stream.waits += 1
        self.stream.reached = max(self.stream.reached, self.at)

    def elapsed_time(self, other):
        assert self.query()
        assert other.query()
        return 1000 * (other.at - self.at)


def test_a_device_is_waited_for_once_a_reading_and_never_in_a_step():
    stream, model = Stream(), net()
    meter = Meter(model, device=DEVICE, every=10, clock=EventClock(stream.record))
    for reading in range(1, 4):
        for _ in range(20):
            with meter.step():
                train(model, 4)
                stream.run(0.25)
            stream.run(3)  # an evaluation
        assert stream.waits == reading - 1
        found = meter.read()
        assert stream.waits == reading
        assert found.seconds == 0.25 * found.timed_steps


def test_counted_steps_leave_no_event():
    stream, model = Stream(), net()
    meter = Meter(model, device=DEVICE, every=2, clock=EventClock(stream.record))
    for _ in range(41):
        with meter.step():
            train(model, 4)
    assert stream.records == 2 * 20  # of 41 steps 21 were counted


def test_events_that_have_come_to_pass_are_let_go_without_waiting(monkeypatch):
    monkeypatch.setattr("opcount.clocks._PENDING", 8)
    stream = Stream()
    clock = EventClock(stream.record)
    for _ in range(100):
        clock.start()
        stream.run(1)
        clock.stop()
        clock.keep()
        stream.reached = stream.queued - 3
        assert len(clock._pieces) <= 8 + 1
    assert stream.waits == 0
    assert clock.take() == 100


def test_the_device_may_lag_by_any_number_of_steps():
    stream = Stream()
    clock = EventClock(stream.record)
    for _ in range(5000):
        clock.start()
        stream.run(0.5)
        clock.stop()
        clock.keep()
    assert clock.take() == 2500
    assert stream.waits == 1
    assert clock.take() == 0


@pytest.mark.parametrize("kind", ["host", "events"])
def test_pieces_of_a_step_add_up_or_are_forgotten_together(kind):
    stream = Stream()
    clock = EventClock(stream.record) if kind == "events" else HostClock(lambda: stream.queued)
    for keep in (True, False, True):
        for _ in range(3):
            clock.start()
            stream.run(1)
            clock.stop()
            stream.run(10)
        clock.keep() if keep else clock.drop()
    assert clock.take() == 6
    assert clock.take() == 0


def test_a_cpu_is_timed_by_the_host():
    assert isinstance(clock_of(torch.device("cpu")), HostClock)
    assert isinstance(clock_of(torch.device("meta")), HostClock)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_an_accelerator_is_timed_by_events_on_the_stream_of_the_models_device(kind, monkeypatch):
    recorded = []

    class Recorded:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self, stream):
            recorded.append(stream)

    backend = getattr(torch, kind)
    monkeypatch.setattr(backend, "Event", Recorded)
    monkeypatch.setattr(backend, "current_stream", lambda device: f"the stream of {device}")
    clock = clock_of(torch.device(kind, 1))
    assert isinstance(clock, EventClock)
    clock.start()
    clock.stop()
    assert recorded == [f"the stream of {kind}:1"] * 2


def test_the_clock_is_chosen_when_the_first_step_is_timed(monkeypatch):
    """A model is moved to its device after the meter was made."""
    places = []
    monkeypatch.setattr("opcount.meter.clock_of", lambda where: places.append(where.type) or HostClock())
    model = nn.Linear(2, 2)
    meter = Meter(model, device=DEVICE, every=10)
    model.to("meta")
    for _ in range(3):
        with meter.step():
            pass
    assert places == ["meta"]
