"""Choice of the steps that are counted: the first, then one in each window; and the estimate for all."""

import random
import statistics
from itertools import pairwise

import numpy as np
import pytest

from opcount.cost import Cost
from opcount.profile import Module, Profile, Record
from opcount.sampling import Sampling

RECORD = Record(("",), "aten.mm.default", "matmul", "forward", "float32", 0, Cost())


def count(macs, calls, unknown=0):
    return Profile(
        records=(RECORD._replace(calls=calls, cost=Cost(macs=macs)),) if calls else (),
        modules={"": Module("", "Net", 0, calls)},
        unattributed={"lost": unknown} if unknown else {},
    )


def run(every, costs, fails=()):
    """Count a loop whose step ``i`` takes ``costs[i]`` MACs; return the sampling and the places counted."""
    sampling, places, total = Sampling(every), [], 0
    for place, macs in enumerate(costs):
        complete = place not in fails
        if sampling.pauses:
            sampling.end_skipped(complete=complete)
            continue
        places.append(place)
        total += macs
        sampling.end_measured(count(total, len(places)).amount(), complete=complete)
    return sampling, places


def whole(sampling):
    return sampling.steps().whole.cost.macs


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
def test_the_first_step_is_counted_and_then_one_of_each_so_many(every):
    _, places = run(every, [1] * (1 + 50 * every))
    assert places[0] == 0
    assert [(place - 1) // every for place in places[1:]] == list(range(50))


def test_the_place_varies_so_that_what_recurs_is_met_as_often_as_it_occurs():
    _, places = run(100, [1] * 100_000)
    for period in (2, 4, 8, 10, 100):
        met = sum(place % period == 0 for place in places) / len(places)
        assert met == pytest.approx(1 / period, rel=0.35)


@pytest.mark.parametrize("period", [4, 100, 250])
def test_a_step_that_recurs_with_the_windows_is_extrapolated_without_bias(period):
    costs = [10 if place % period == period - 1 else 2 for place in range(1, 200_001)]
    sampling, _ = run(100, costs)
    assert whole(sampling) == pytest.approx(sum(costs), rel=0.05)


def test_the_places_are_the_same_in_every_run_and_leave_the_generators_alone():
    random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002  (the one that users have seeded)
    assert run(10, [1] * 500)[1] == run(10, [1] * 500)[1]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("steps", [1, 2, 3, 99, 1000])
def test_equal_steps_are_extrapolated_exactly(every, steps):
    sampling, places = run(every, [7] * steps)
    found = sampling.steps()
    assert (whole(sampling), found.total, found.measured) == (7 * steps, steps, len(places))
    assert found.whole.calls[""] == found.whole.records[0].calls == steps
    assert found.spread == (Cost(7),) * 3


def test_the_first_step_stands_for_itself_alone():
    sampling, places = run(10, [1000] + [7] * 999)
    assert whole(sampling) == 1000 + 999 * 7
    assert 100 <= len(places) <= 101
    assert sampling.steps().spread == (Cost(1000), Cost(7), Cost(1000))


def test_the_first_step_stands_for_the_others_while_nothing_else_was_counted():
    sampling, places = run(10**6, [5] + [7] * 9)
    assert (places, whole(sampling)) == ([0], 50)


def test_the_spread_is_of_the_counted_steps():
    costs = list(range(100, 200))
    sampling, places = run(10, costs)
    counted = [costs[place] for place in places]
    assert sampling.steps().spread == (Cost(100), Cost(min(counted)), Cost(max(counted)))
    mean = sum(counted[1:]) / len(counted[1:])
    assert whole(sampling) == round(100 + 99 * mean)


def test_everything_is_exact_if_every_step_is_counted():
    costs = [3, 1, 4, 1, 5, 9, 2, 6]
    sampling, places = run(1, costs)
    assert (places, whole(sampling)) == (list(range(8)), sum(costs))


def test_after_a_counted_step_that_failed_the_next_is_counted():
    whole_loop, places = run(10, [50] + [7] * 99, fails={0})
    assert places[:2] == [0, 1]
    found = whole_loop.steps()
    assert (found.total, found.interrupted, whole(whole_loop)) == (99, 1, 99 * 7)
    assert found.spread == (Cost(7),) * 3


def test_steps_that_failed_are_left_out_of_the_extrapolation():
    _, places = run(10, [7] * 100)
    later = places[3]
    sampling, again = run(10, [1 if place == later else 7 for place in range(100)], fails={later, 2})
    assert again[3:5] == [later, later + 1]
    found = sampling.steps()
    assert (found.total, found.interrupted, whole(sampling)) == (98, 2, 98 * 7)


def test_before_a_step_has_ended_nothing_is_extrapolated():
    found = Sampling(10).steps()
    assert (found.total, found.measured, found.spread, found.whole.records) == (0, 0, None, ())


def test_the_standard_error_is_that_of_a_sample_of_the_steps_after_the_first():
    costs = [int(cost) for cost in np.random.default_rng(0).integers(1, 1000, 2_001)]
    sampling, places = run(10, costs)
    counted = [costs[place] for place in places[1:]]
    assert len(counted) == 200
    expected = 2000 * statistics.stdev(counted) / 200**0.5 * (1 - 200 / 2000) ** 0.5
    error = sampling.steps().error.macs
    assert error == pytest.approx(expected, abs=1)
    assert abs(whole(sampling) - sum(costs)) < 3 * error


def test_the_error_is_nothing_of_equal_steps_of_any_size_and_where_all_were_counted():
    assert run(10, [10**18 + 1] * 200)[0].steps().error == Cost()
    assert run(1, [3, 1, 4])[0].steps().error == Cost()


def test_the_error_is_unknown_where_fewer_than_three_steps_were_counted():
    assert run(100, [1] * 101)[0].steps().measured == 2
    assert run(100, [1] * 101)[0].steps().error is None


def test_unattributed_calls_are_extrapolated_with_the_rest():
    sampling = Sampling(1)
    for place in range(4):
        assert not sampling.pauses
        sampling.end_measured(count(place + 1, place + 1, unknown=2 * (place + 1)).amount(), complete=True)
    assert sampling.steps().whole.unattributed == {"lost": 8}


def test_it_can_begin_anew():
    sampling, _ = run(10, [1] * 5)
    sampling.clear()
    assert sampling.steps() == Sampling(10).steps()
    assert not sampling.pauses


@pytest.mark.parametrize("every", [0, -1, True, False, 1.5, 100.0, "100", float("nan")])
def test_every_is_a_whole_number_from_1_on(every):
    with pytest.raises(ValueError, match="expected every to be a whole number from 1 on, got") as caught:
        Sampling(every)
    assert repr(every) in str(caught.value)
    assert type(every).__name__ in str(caught.value)


def test_integers_of_other_libraries_will_do():
    _, places = run(np.int64(3), [1] * 100)
    assert all(1 <= after - before <= 5 for before, after in pairwise(places))
