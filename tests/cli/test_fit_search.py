"""The search for the largest batch, on programs whose memory is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcount import Device
from opcount.cli.fit_search import TRIALS, largest_batch
from opcount.errors import InputError
from opcount.fit import AllocationLog, Fit, fit_of
from opcount.fit.overheads import CONTEXT
from opcount.live_memory import LiveMemory

MiB = 1 << 20


def count(fixed: int, each: int, memory: int, batch: int) -> Fit:
    """Return what one allocation of a fixed size and one that grows with the batch need."""
    log = AllocationLog.of([fixed * MiB], [each * batch])
    device = Device(name="L4", peaks={"float32": 1e12}, bandwidth=1e12, memory=CONTEXT + memory * MiB)
    return fit_of(LiveMemory(log=log), set(), device)


@given(st.integers(1, 400), st.integers(512, 90 * MiB), st.integers(40, 4000))
def test_the_largest_batch_is_found(fixed: int, each: int, memory: int) -> None:
    search = largest_batch(lambda batch: count(fixed, each, memory, batch))
    assert len(search.trials) <= TRIALS
    assert [trial.batch for trial in search.trials] == sorted({trial.batch for trial in search.trials})
    if search.largest is None:
        assert not count(fixed, each, memory, 1).has_room
    elif search.is_exact:
        assert count(fixed, each, memory, search.largest.batch).has_room
        assert not count(fixed, each, memory, search.largest.batch + 1).has_room
    else:
        assert len(search.trials) == TRIALS or search.largest.batch >= 1 << 20


def test_a_model_that_refuses_one_sample_is_tried_with_two() -> None:
    def pair(batch: int) -> Fit:
        if batch == 1:
            raise InputError("more than one value per channel")
        return count(1, MiB, 200, batch)

    search = largest_batch(pair)
    assert search.trials[0].batch == 2
    assert search.largest is not None
    assert search.largest.batch == 198  # 200 MiB less the segment of 2 for the first one


def test_what_no_batch_can_change_ends() -> None:
    def broken(batch: int) -> Fit:
        raise InputError(f"no {batch}")

    with pytest.raises(InputError, match="no 2"):
        largest_batch(broken)
