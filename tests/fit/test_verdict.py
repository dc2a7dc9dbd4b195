"""Verdicts: what a count needs line by line, what remains, and when nothing can be said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from opcount import Device, OpCounter, Profile
from opcount.errors import DeviceError, InputError
from opcount.fit import AllocationLog, Fit, fit_of
from opcount.fit.overheads import CONTEXT
from opcount.live_memory import LiveMemory

MiB = 1 << 20


def device(room: int) -> Device:
    """Return a device that has so many bytes beside the context."""
    return Device(name="L4", peaks={"float32": 1e12}, bandwidth=1e12, memory=CONTEXT + room)


def fit(events: list[int], room: int, **facts: object) -> Fit:
    memory = LiveMemory(log=AllocationLog.of([], events), **facts)  # type: ignore[arg-type]
    return fit_of(memory, set(), device(room))


def test_the_parts_add_up_to_what_is_needed() -> None:
    found = fit([100, 3 * MiB], 24 * MiB)
    assert {part.name: part.bytes for part in found.parts} == {
        "live bytes": 100 + 3 * MiB,
        "rounding": 412,
        "cached": 22 * MiB - 3 * MiB - 512,
        "CUDA context": CONTEXT,
    }
    assert found.needed == CONTEXT + 22 * MiB
    assert (found.verdict, found.margin, found.fits) == ("fits", 2 * MiB, True)
    lines = str(found).splitlines()
    assert lines[0].split()[:4] == ["live", "bytes", "3.146", "MB"]
    assert lines[-1].startswith("verdict: fits on L4: 2.097 MB (")


def test_what_is_one_byte_too_large_does_not_fit() -> None:
    assert fit([30 * MiB], 30 * MiB).verdict == "fits"
    found = fit([30 * MiB], 30 * MiB - 1)
    assert (found.verdict, found.margin) == ("does not fit", -1)
    assert "1 B (0.0 %) too much" in found.summary()


def test_cached_segments_are_given_back_before_a_count_does_not_fit() -> None:
    found = fit([30 * MiB, -1, 32 * MiB], 40 * MiB)
    assert (found.verdict, found.retries, found.margin) == ("fits", 1, 8 * MiB)
    assert found.summary().endswith("if the allocator gives cached segments back once")


def test_pieces_that_are_too_small_do_not_fit_although_bytes_are_left() -> None:
    found = fit([9 * MiB, 9 * MiB, -3, 15 * MiB], 34 * MiB)  # 11 MiB of the segment of 20 are free, but no 15
    assert not found.has_room
    assert found.verdict == "does not fit"
    assert found.summary().endswith("too much, but cached memory that is in pieces too small for the program")


def test_products_have_a_workspace_for_each_thread_that_multiplies() -> None:
    for events, number in (([512], 0), ([512, 0], 1), ([512, 0, 512, 0], 2)):
        parts = fit_of(LiveMemory(log=AllocationLog.of([], events)), set(), Device.find("H100-SXM5")).parts
        assert [part.bytes for part in parts if part.name == "cuBLAS workspace"] == [32 * MiB] * number


def test_products_with_a_bias_have_another() -> None:
    memory = LiveMemory(log=AllocationLog())
    for phases, number in ((set(), 0), ({"forward", "prefill"}, 1), ({"forward", "backward", "recompute"}, 2)):
        parts = fit_of(memory, phases, Device.find("L4")).parts
        assert [part.bytes for part in parts if part.name == "cuBLASLt workspace"] == [MiB] * number


def test_what_is_not_known_makes_a_lower_bound() -> None:
    found = fit([512], 24 * MiB, unknown=("aten.mkldnn_rnn_layer.default",))
    assert (found.verdict, found.fits) == ("lower bound only", False)
    assert "not known: the workspace of aten.mkldnn_rnn_layer.default" in str(found)
    assert fit([512], MiB, unknown=("aten.mkldnn_rnn_layer.default",)).verdict == "does not fit"
    cut = LiveMemory(log=AllocationLog.of([], [512], cut=3))
    assert fit_of(cut, set(), device(24 * MiB)).verdict == "lower bound only"


def test_a_count_without_a_log_says_how_to_get_one() -> None:
    with pytest.raises(InputError, match=r'without live bytes\. Count with OpCounter\(model, memory="log"\)'):
        Profile().fits("L4")
    with pytest.raises(InputError, match="with live bytes, but without the order of allocations"):
        Profile(memory=LiveMemory()).fits("L4")


def test_a_device_without_memory_or_with_another_allocator_is_refused() -> None:
    profile = Profile(memory=LiveMemory(log=AllocationLog()))
    with pytest.raises(DeviceError, match="expected a device whose memory is known, got 'L4' without"):
        profile.fits(replace(device(1), memory=None))
    with pytest.raises(DeviceError, match="caching allocator serves, got 'TPU-v4'"):
        profile.fits("TPU-v4")
    with pytest.raises(DeviceError, match="got 'L5'"):
        profile.fits("L5")


def test_a_training_fits_as_long_as_the_segments_of_its_replay_do() -> None:
    model = nn.Linear(1024, 1024)
    x = torch.ones(64, 1024)
    with OpCounter(model, memory="log", dry_run=True) as c:
        model(x).sum().backward()
    needed = c.profile.fits(device(1 << 30)).needed
    assert c.profile.fits(device(needed - CONTEXT)).fits
    assert not c.profile.fits(device(needed - CONTEXT - 21 * MiB)).fits
