"""Floors of a step on devices with links, and plans."""

from __future__ import annotations

import pytest

from opcount.cost import Cost
from opcount.devices import Device
from opcount.distributed.simulate_ranks import RankKind, World, read_world, representatives
from opcount.distributed.sizing import Sizing
from opcount.errors import DeviceError, InputError, ProfileFormatError
from opcount.profile import Profile
from opcount.records import Collective, Record

DEVICE = Device(name="mine", peaks={"bf16": 100e12}, bandwidth=1e12)


def rank(macs, traffic, **sent):
    """Return the profile of a rank: one product, and an all-gather of so many bytes for each group of 4."""
    product = Record(("",), "aten.mm.default", "matmul", "forward", "bfloat16", 1, Cost(macs), traffic)
    collectives = [
        Record(
            ("",), "c10d._allgather_base_.default", "collective", "forward", "bfloat16", 1, Cost(), 0,
            collective=Collective("all-gather", group, 4, None, buffer_bytes),
        )
        for group, buffer_bytes in sent.items()
    ]  # fmt: skip
    return Profile(records=(product, *collectives))


def test_a_step_takes_what_its_slowest_rank_needs_most():
    light, heavy = rank(10**13, 10**11, dp=4 * 10**9), rank(2 * 10**13, 10**11, dp=4 * 10**9)
    sizing = Sizing(
        world=World((RankKind(0, 6, light), RankKind(6, 2, heavy))), device=DEVICE, links={"dp": 10e9},
        tokens_per_step=4000, tokens=86400 * 1e4, mfu=0.5,
    )  # fmt: skip
    first, last = sizing.floors
    assert (first.compute, first.memory) == (2 * 10**13 / 100e12, 10**11 / 1e12)
    assert first.communication == {"dp": 4e9 * 3 / 4 / 10e9}
    assert first.seconds == 0.3  # 3 GB over a link of 10 GB/s
    assert sizing.slowest is last
    assert last.seconds == 0.4  # 40 TFLOP at 100 TFLOP/s
    assert last.one_by_one == pytest.approx(0.4 + 0.3)
    # (6 x 20 + 2 x 40) / 8 = 25 TFLOP a rank, at half of 100 TFLOP/s
    assert sizing.planned_seconds == pytest.approx(0.5)
    text = str(sizing)
    assert "at least 400.000 ms, bound by compute of rank 6" in text
    assert (
        "planned: 8,000 tokens/s, 1,000 for each of 8 devices; 1.2 days" in text
    )  # 864 M tokens / 8,000 / 86,400 s = 1.25


def test_a_plan_below_the_floor_is_called_impossible():
    sizing = Sizing(world=World((RankKind(0, 1, rank(10**12, 10**12)),)), device=DEVICE, mfu=0.9)
    assert "no plan reaches an MFU of 0.9 here" in str(sizing)


def test_a_group_without_a_link_is_an_error_that_names_it():
    world = World((RankKind(0, 1, rank(1, 1, tp=8, dp=8)),))
    with pytest.raises(DeviceError, match="for 'dp', over which a rank communicates, got links for tp"):
        _ = Sizing(world=world, device=DEVICE, links={"tp": 1e9}).floors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mfu": 40}, "share of the peak as mfu, got 40"),
        ({"mfu": 0}, "positive number as mfu"),
        ({"tokens": 15e12}, "tokens of a step beside tokens"),
        ({"links": {"dp": -1}}, "bytes per second for the link of dp, got -1"),
    ],
)
def test_numbers_that_make_no_plan_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Sizing(world=World((RankKind(0, 1, rank(1, 1)),)), device=DEVICE, **settings)


def test_a_file_has_the_ranks_of_a_world_or_one_rank(tmp_path):
    world = World((RankKind(0, 3, rank(5, 7)), RankKind(3, 1, rank(6, 7, dp=8))))
    whole, single, other = tmp_path / "world.json", tmp_path / "rank.json", tmp_path / "other.json"
    whole.write_text(world.to_json())
    single.write_text(rank(5, 7).to_json())
    other.write_text('{"format": "opcount.world", "kinds": [{"rank": 0}]}')
    assert read_world(whole) == world
    assert read_world(whole).total(lambda profile: profile.macs) == 3 * 5 + 6
    assert [(kind.rank, kind.count) for kind in read_world(single).kinds] == [(0, 1)]
    with pytest.raises(ProfileFormatError, match="kinds of ranks"):
        read_world(other)


def staged(**groups):
    records = [
        Record(
            ("",), "c10d.send.default", "collective", "forward", "float32", 1, Cost(), 0,
            collective=Collective("send", name, len(ranks), None, 4),
        )
        for name, ranks in groups.items()
    ]  # fmt: skip
    return Profile(records=tuple(records), groups={**groups, "dp": (0, 1, 2, 3)})


def test_ranks_that_send_no_messages_are_all_alike():
    assert list(representatives(Profile(groups={"dp": tuple(range(8))}), 8)) == [(0, 8)]


def test_first_middle_and_last_stages_stand_for_all():
    assert list(representatives(staged(pp=(0, 4, 8, 12, 16)), 20)) == [(0, 4), (8, 12), (16, 4)]
    assert list(representatives(staged(pp=(0, 4)), 8)) == [(0, 4), (4, 4)]
    both = list(representatives(staged(pp=(0, 8), cp=(0, 2, 4, 6)), 16))
    assert both == [(0, 2), (4, 4), (6, 2), (8, 2), (12, 4), (14, 2)]
    assert sum(count for _, count in both) == 16
