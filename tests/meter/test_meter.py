"""The meter of a loop: what it reads, steps of varying sizes, exceptions, wrong use."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from opcount import Device, Meter, OpCounter
from opcount.errors import CounterStateError, DeviceError, InputError
from tests.meter.loops import DEVICE, WIDTH, meter_of, net, step_flops, train


def test_a_reading_is_the_arithmetic_of_its_steps():
    model = net()
    meter, now = meter_of(model, every=100)
    for _ in range(11):
        with meter.step(tokens=4):
            train(model, 4)
            now.time += 0.5
    reading = meter.read()
    assert (reading.steps, reading.timed_steps, reading.tokens, reading.timed_tokens) == (11, 10, 44, 40)
    assert reading.seconds == 5.0  # ten steps of half a second: the first was counted
    assert reading.tokens_per_second == 8.0  # 40 tokens in 5 s
    assert reading.steps_per_second == 2.0
    assert reading.flops_per_second == 10 * step_flops(4) / 5.0
    assert reading.mfu == reading.hfu == 10 * step_flops(4) / 5.0 / 1e9
    assert reading.device is DEVICE
    assert reading.peaks == {"float32": 1e9}
    assert str(reading) == (
        "11 steps, 10 timed in 5 s, 8 tokens/s, 2.048 kFLOP/s, MFU 0.000205 %, HFU 0.000205 % of toy "
        "(float32 1 GFLOP/s; given by the user)"
    )
    assert reading.metrics() == {
        "steps_per_second": 2.0,
        "tokens_per_second": 8.0,
        "flops_per_second": 2048.0,
        "mfu": reading.mfu,
        "hfu": reading.hfu,
    }


def test_each_reading_is_of_the_steps_since_the_last_one():
    model = net()
    meter, now = meter_of(model, every=1000)
    for rows in (4, 4, 16):
        for _ in range(10):
            with meter.step(tokens=rows):
                train(model, rows)
                now.time += 1
        reading = meter.read()
        assert reading.steps == 10
        assert reading.flops_per_second == step_flops(rows)  # in proportion to the tokens, whatever was counted


def test_the_time_between_steps_and_the_evaluation_in_it_are_no_part_of_them():
    model = net()
    meter, now = meter_of(model, every=10)
    for _ in range(21):
        with meter.step():
            train(model, 4)
            now.time += 1
        now.time += 7
        with torch.no_grad():
            model(torch.ones(100, WIDTH))
    reading = meter.read()
    assert reading.seconds == reading.timed_steps == 18  # of 21 three were counted: the first, and one of each ten
    assert reading.flops_per_second == step_flops(4)


def test_a_part_of_a_step_is_left_out_while_it_is_paused():
    model = net()
    meter, now = meter_of(model, every=4)
    for _ in range(13):
        with meter.step():
            train(model, 4)
            now.time += 1
            meter.pause()
            train(model, 400)
            now.time += 50
            meter.resume()
            now.time += 1
    reading = meter.read()
    assert reading.seconds == 2 * reading.timed_steps
    assert reading.flops_per_second == step_flops(4) / 2


def test_a_step_that_is_left_while_it_is_paused_is_over():
    model = net()
    meter, now = meter_of(model, every=2)
    for _ in range(9):
        with meter.step():
            now.time += 1
            train(model, 4)
            meter.pause()
            now.time += 5
            train(model, 4)
    reading = meter.read()
    assert reading.seconds == reading.timed_steps
    assert reading.flops_per_second == step_flops(4)


def test_several_batches_of_one_optimizer_step_are_one_step():
    model = net()
    meter, now = meter_of(model, every=10)
    for _ in range(21):
        with meter.step():
            for _ in range(4):
                meter.add_tokens(2)
                train(model, 2)
                now.time += 1
    reading = meter.read()
    assert (reading.steps, reading.tokens) == (21, 168)
    assert reading.seconds == 4 * reading.timed_steps
    assert reading.flops_per_second == step_flops(2)


@pytest.mark.parametrize("every", [2, 3, 10, 50])
def test_steps_of_varying_size_are_estimated_from_their_tokens(every):
    draw = random.Random(every)
    model = net()
    meter, now = meter_of(model, every=every)
    true = 0
    for _ in range(200):
        rows = draw.randint(1, 40)
        with meter.step(tokens=rows):
            train(model, rows)
            now.time += 1
            true += 0 if meter._counter.skips is False else step_flops(rows)
    reading = meter.read()
    assert reading.flops["float32"].hardware == pytest.approx(true)  # cost is linear in the tokens, so it is exact


def test_a_cost_that_does_not_grow_with_the_tokens_is_estimated_as_it_is():
    draw = random.Random(0)
    model = net()
    meter, now = meter_of(model, every=10)
    for _ in range(100):
        with meter.step(tokens=draw.randint(1, 32)):  # of a batch that is padded to 32
            train(model, 32)
            now.time += 1
    reading = meter.read()
    assert reading.flops_per_second == step_flops(32)


def test_a_cost_with_a_part_that_does_not_grow_is_estimated_as_it_is():
    draw, model, fixed, true = random.Random(0), net(), net(), 0
    meter, now = meter_of(model, every=10)
    for _ in range(100):
        rows = draw.randint(1, 32)
        with meter.step(tokens=rows):
            train(model, rows)
            train(fixed, 10)
            now.time += 1
        true += step_flops(rows + 10) if meter._counter.skips else 0
    assert meter.read().flops["float32"].model == pytest.approx(true)


def test_without_tokens_steps_of_varying_size_are_estimated_as_a_sampled_counter_does():
    draw = random.Random(3)
    sizes = [draw.randint(1, 32) for _ in range(300)]
    model, other = net(), net()
    meter, now = meter_of(model, every=10)
    counter = OpCounter(other, every=10)
    for rows in sizes:
        with meter.step():
            train(model, rows)
            now.time += 1
        with counter:
            train(other, rows)
    steps = counter.profile.steps
    later = counter.extrapolated().macs - steps.spread.first.macs  # of all steps but the first
    reading = meter.read()
    assert reading.tokens is None
    assert reading.tokens_per_second is None
    assert reading.flops["float32"].hardware / reading.timed_steps == pytest.approx(2 * later / 299, rel=1e-5)


def test_tokens_that_not_every_step_tells_are_unknown():
    model = net()
    meter, now = meter_of(model, every=10)
    for tokens in (3, 3, None, 3):
        with meter.step(tokens):
            train(model, 4)
            now.time += 1
    assert meter.read().tokens_per_second is None
    for _ in range(2):
        with meter.step(3):
            train(model, 4)
            now.time += 1
    assert meter.read().tokens_per_second == 3


def test_each_dtype_is_divided_by_its_own_peak():
    model, double = net(), net(torch.float64)
    meter, now = meter_of(nn.ModuleList([model, double]), every=10)
    for _ in range(5):
        with meter.step():
            train(model, 4)
            train(double, 6)
            now.time += 1
    reading = meter.read()
    assert reading.flops.keys() == {"float32", "float64"}
    assert reading.mfu == pytest.approx(step_flops(4) / 1e9 + step_flops(6) / 0.5e9)


def test_recomputation_is_hardware_flops_and_no_model_flops():
    model = nn.Sequential(net(), net())
    meter, now = meter_of(model, every=10)
    for _ in range(5):
        with meter.step():
            x = torch.ones(4, WIDTH, requires_grad=True)
            checkpoint(model, x, use_reentrant=False).sum().backward()
            now.time += 1
    flops = meter.read().flops["float32"]
    product = 2 * 4 * WIDTH * WIDTH
    assert flops.model == 4 * 6 * product  # in each of four steps: two products forward, and two gradients of each
    assert flops.hardware == 4 * 7 * product  # and the first one again; the last one's result is not needed


def fail(model, now, error):
    train(model, 100)
    now.time += 100
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_step_that_an_exception_ends_is_left_out(error, at):
    model = net()
    meter, now = meter_of(model, every=5)
    for i in range(30):
        if i == at:
            with pytest.raises(error), meter.step(tokens=100):
                fail(model, now, error)
        with meter.step(tokens=4):
            train(model, 4)
            now.time += 1
    reading = meter.read()
    assert (reading.steps, reading.tokens) == (30, 120)
    assert reading.seconds == reading.timed_steps
    assert reading.flops_per_second == step_flops(4)


def test_a_clock_that_fails_leaves_no_counter_behind():
    class Broken:
        def start(self):
            raise RuntimeError("no device")

    meter = Meter(net(), device=DEVICE, every=100, clock=Broken())
    with meter.step():
        pass
    with pytest.raises(RuntimeError, match="no device"), meter.step():
        pass
    with pytest.raises(RuntimeError, match="no device"), meter.step():  # and no step is running
        pass


def test_a_step_inside_a_step_is_refused():
    meter, _ = meter_of(net(), every=10)
    with meter.step():
        with pytest.raises(CounterStateError, match=r"Meter.step: a step is running. Leave it first"):
            meter.step()
        with pytest.raises(CounterStateError, match=r"a step is running"), meter:
            pass
        with pytest.raises(CounterStateError, match=r"Meter.read: a step is running"):
            meter.read()


def test_reading_before_a_step_is_refused():
    model = net()
    meter, now = meter_of(model, every=10)
    assert not meter.is_ready
    with pytest.raises(CounterStateError, match=r"Meter.read: no step has ended since the last reading"):
        meter.read()
    with meter.step():
        train(model, 4)
    with pytest.raises(CounterStateError, match=r"all of the 1 steps since .* were counted, and .* are not timed"):
        meter.read()
    for _ in range(2):
        with meter.step():
            now.time += 1
    assert meter.is_ready
    assert meter.read().steps == 3  # a refused reading loses nothing
    with pytest.raises(CounterStateError, match="no step has ended"):
        meter.read()


@pytest.mark.parametrize("method", ["pause", "resume"])
def test_what_belongs_into_a_step_is_refused_outside(method):
    meter, _ = meter_of(net(), every=10)
    with pytest.raises(CounterStateError, match=f"Meter.{method}: no step is running"):
        getattr(meter, method)()
    with pytest.raises(CounterStateError, match="add_tokens: no step is running"):
        meter.add_tokens(3)
    with pytest.raises(CounterStateError, match="no step is running"):
        meter.__exit__(None, None, None)


@pytest.mark.parametrize("back", [0.0, -1.0])
def test_a_clock_that_stands_still_is_refused(back):
    model = net()
    meter, now = meter_of(model, every=10)
    for _ in range(3):
        with meter.step():
            train(model, 4)
            now.time += back
    with pytest.raises(InputError, match=r"expected the clock to move on, got -?\d.0 s for 2 steps"):
        meter.read()


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("inf"), True, "7", torch.tensor(7), [7]])
def test_tokens_that_are_no_number_are_refused(tokens):
    meter, _ = meter_of(net(), every=10)
    with pytest.raises(InputError, match=r"expected a number of tokens, got .*item\(\)"):
        meter.step(tokens)
    with meter.step(), pytest.raises(InputError, match="expected a number of tokens"):
        meter.add_tokens(tokens)


@pytest.mark.parametrize("every", [0, 1, -5, None, 2.5, True, "10"])
def test_an_every_that_leaves_nothing_to_time_is_refused(every):
    with pytest.raises(ValueError, match=r"expected every to be a whole number from \d on, got"):
        Meter(net(), device=DEVICE, every=every)


def test_an_unknown_device_is_refused_when_the_meter_is_made():
    with pytest.raises(DeviceError, match="expected a device with known peaks, got 'H800'"):
        Meter(net(), device="H800")
    with pytest.raises(DeviceError, match=r"expected a device with known peaks.*Device\(name="):
        Meter(net())  # on a CPU
    assert Meter(net(), device="H100-SXM5").device.name == "H100-SXM5-80GB"


def test_a_dtype_without_a_peak_is_refused_where_it_matters():
    model = net()
    meter, now = meter_of(model, every=10)
    meter.device = Device(name="toy", peaks={"bfloat16": 1e9}, bandwidth=1e9)
    for _ in range(3):
        with meter.step():
            train(model, 4)
            now.time += 1
    reading = meter.read()
    assert reading.flops_per_second == step_flops(4)
    for percentage in ("mfu", "hfu"):
        with pytest.raises(DeviceError, match=r"toy: expected a dtype with a known peak \(bfloat16\), got 'float32'"):
            getattr(reading, percentage)
    assert "no MFU: utilization: toy: expected a dtype with a known peak" in str(reading)


def test_a_causal_convention_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="expected causal to be one of 'full', 'half', got 'quarter'"):
        Meter(net(), device=DEVICE, causal="quarter")


def test_a_loop_that_computes_nothing_has_no_utilization_and_no_error():
    meter, now = meter_of(None, every=10)
    for _ in range(3):
        with meter.step():
            now.time += 1
    reading = meter.read()
    assert (reading.mfu, reading.hfu, reading.flops_per_second) == (0, 0, 0)


def test_the_counted_steps_can_be_looked_at():
    model = net()
    meter, now = meter_of(model, every=10)
    for _ in range(5):
        with meter.step():
            train(model, 4)
            now.time += 1
    assert meter.profile.macs == step_flops(4) / 2
    assert meter.profile.steps.verdict() == "measured in 1 of 5 steps"


def test_with_the_real_clock_a_meter_measures_time():
    model = net()
    meter = Meter(model, device=DEVICE, every=10)
    for _ in range(5):
        with meter.step():
            train(model, 4)
    reading = meter.read()
    assert 0 < reading.seconds < 60
    assert reading.mfu > 0
