"""Counts of several ranks, merged: sums, maxima, imbalance, each collective once."""

from __future__ import annotations

import pytest

from opcount import Profile
from opcount.cost import Cost
from opcount.distributed import Ranks, gather
from opcount.records import Collective, Record
from tests.distributed import merging
from tests.distributed.programs import BATCH, MICROBATCHES, WIDTH
from tests.distributed.ranks import run


def test_the_ranks_add_up_and_the_one_with_most_is_named_with_the_module():
    first, second = (Ranks(profiles) for profiles in run(merging.uneven, 2))
    assert first.profiles == second.profiles
    forward = WIDTH * WIDTH + WIDTH
    step = forward + WIDTH * WIDTH + WIDTH + WIDTH  # the first layer's input needs no gradient
    assert first.each("macs") == {0: step, 1: 2 * step}
    assert (first.sum("macs"), first.max("macs"), first.mean("macs")) == (3 * step, 2 * step, 1.5 * step)
    apart = first.imbalance("macs")
    assert (apart.rank, apart.module, apart.ratio) == (1, "0", pytest.approx(4 / 3))
    assert apart.excess == WIDTH * WIDTH  # forward and weight gradient: 2 x 2 and 1 x 2 products, on the mean 1.5 x 2
    payload = 4 * (WIDTH * WIDTH + WIDTH + WIDTH + 1)
    assert first.each("buffer_bytes") == {0: payload, 1: payload}
    assert first.merged.communication.by_kind()["all-reduce"] == (1, payload, payload)  # once for both
    assert first.merged.macs == 3 * step
    text = str(first)
    assert "ranks: 2" in text
    assert "MACs apart: rank 1 has 1.33 times the mean, most of it by 0 (+" in text


def test_stages_that_ran_different_modules_are_merged_and_a_transfer_is_counted_once():
    (profiles, *_) = run(merging.stages, 2)
    micro = BATCH * WIDTH * 4
    ranks = Ranks(profiles)
    assert ranks.merged.communication.by_kind() == {
        "send": (2 * MICROBATCHES, 2 * MICROBATCHES * micro, 2 * MICROBATCHES * micro)
    }
    assert ranks.merged.macs == ranks.sum("macs")


def test_work_with_whole_parameters_is_told_from_work_with_parts_of_them():
    (profiles, *_) = run(merging.norms, 2)
    ranks = Ranks(profiles)
    assert dict(profiles[0].modules["1"].shards) == {"tp": 2 * WIDTH * WIDTH + 2 * WIDTH}
    work = ranks.work()
    assert work["sharded"].macs == 3 * 2 * (2 * WIDTH * WIDTH)  # both products, once in all
    assert work["replicated"].macs == 0
    norm = [p.by_module()["0"].arith for p in profiles.values()]
    assert work["replicated"].arith >= sum(norm) > 0
    assert ranks.replicated() == {"0": 2}


def test_sampled_loops_are_merged_measured_and_extrapolated():
    for macs, estimate, verdict in run(merging.sampled, 2):
        assert (macs, estimate) == (2 * 24 * 3, 2 * 24 * 5)
        assert verdict == "measured in 6 of 10 steps"


def test_a_rank_that_never_answers_is_named_after_the_timeout_and_the_counts_of_the_others_are_there():
    *others, _ = run(merging.absent, 3)
    for text, missing, answered in others:
        assert "got none of rank 2 within 1 s" in text
        assert (missing, answered) == ((2,), [0, 1])


def test_a_program_without_a_group_or_with_a_fake_one_is_alone():
    profile = Profile()
    assert gather(profile).profiles == {0: profile}
    assert [list(found) for found in run(merging.alone, 2, fake=True)] == [[0], [1]]


def collective(kind, ranks, size):
    sent = Collective(kind, "tp", ranks, None, size)
    return Record(("",), "c10d.op_.default", "collective", "forward", "float32", 1, Cost(), collective=sent)


def test_a_collective_counts_once_for_each_group_and_what_is_received_counts_where_its_sender_is_unknown():
    def profile(group, *records):
        return Profile(records, groups={"tp": group})

    reduce, send, receive = (collective(kind, 2, size) for kind, size in (("all-reduce", 8), ("send", 4), ("recv", 4)))
    two_groups = Ranks({rank: profile((rank // 2 * 2, rank // 2 * 2 + 1), reduce) for rank in range(4)})
    assert two_groups.merged.communication.total == (2, 16, 16)
    assert two_groups.sum("buffer_bytes") == 32
    both = Ranks({0: profile((0, 1), send), 1: profile((0, 1), receive)})
    assert both.merged.communication.by_kind() == {"send": (1, 4, 4)}
    assert Ranks({1: profile((0, 1), receive)}).merged.communication.by_kind() == {"recv": (1, 4, 4)}
