"""Bytes of collectives, on ranks that are processes: equal to the closed forms, to the byte."""

from __future__ import annotations

import pytest

from opcount.communication import Volume
from tests.distributed import programs
from tests.distributed.programs import BATCH, LAYERS, MICROBATCHES, SEQUENCE, WIDTH
from tests.distributed.ranks import run

FLOAT = 4
LAYER = ((4 * WIDTH * WIDTH + 4 * WIDTH) + (8 * WIDTH * WIDTH + 5 * WIDTH)) * FLOAT
"""Bytes of the parameters of a layer: of attention, then of the two products after it, each with its bias."""
PARAMS = LAYERS * LAYER
HIDDEN = BATCH * SEQUENCE * WIDTH * FLOAT


def test_ddp_reduces_each_gradient_once_and_a_bucket_belongs_to_the_whole_model():
    for profile in run(programs.ddp, 2):
        sent = Volume(1, PARAMS, PARAMS)  # 2 (n - 1) / n = 1
        assert profile.communication.by_kind() == {"all-reduce": sent}
        assert profile.communication.by_module() == {"": sent}
        assert profile.communication.by_phase() == {"backward": sent}
        assert profile.params * FLOAT == PARAMS


@pytest.mark.parametrize("size", [2, 4])
def test_fsdp_gathers_all_parameters_twice_and_scatters_their_gradients_once(size):
    for profile, _ in run(programs.fsdp, size):
        ring = PARAMS * (size - 1) // size
        assert profile.communication.by_group_and_kind() == {
            ("shard", size, "all-gather"): Volume(2 * LAYERS, 2 * PARAMS, 2 * ring),
            ("shard", size, "reduce-scatter"): Volume(LAYERS, PARAMS, ring),
        }
        assert profile.communication.groups == {"shard": tuple(range(size))}
        assert profile.by_family()["collective"].buffer_bytes == profile.total.buffer_bytes == 3 * PARAMS


def test_each_gather_of_fsdp_belongs_to_the_layer_that_owns_the_parameters_wherever_it_is_issued():
    profile, theirs = run(programs.fsdp, 2)[0]
    by_module, by_issuer = profile.communication.by_module(), profile.communication.by_issuer()
    assert {path: by_module[path] for path in ("0", "1", "2")} == dict.fromkeys(
        ("0", "1", "2"), Volume(3, 3 * LAYER, 3 * LAYER // 2)
    )
    assert [by_issuer[path].calls for path in ("0", "1", "2")] == [1, 3, 4]  # gathered ahead of layers 1 and 0
    gathers = [theirs[f"FSDPSequential.{layer}"] for layer in range(LAYERS)]
    assert [sum(sum(each.values()) for each in layer.values()) for layer in gathers] != [3, 3, 3]  # CommDebugMode


def test_replicas_that_are_sharded_reduce_their_shards_of_gradients():
    for rank, (profile, _) in enumerate(run(programs.fsdp, 4, 2)):
        shards = PARAMS // 2
        assert profile.communication.by_group_and_kind() == {
            ("shard", 2, "all-gather"): Volume(2 * LAYERS, 2 * PARAMS, PARAMS),
            ("shard", 2, "reduce-scatter"): Volume(LAYERS, PARAMS, PARAMS // 2),
            ("replicate", 2, "all-reduce"): Volume(LAYERS, shards, shards),
        }
        assert profile.communication.groups == {
            "shard": (rank // 2 * 2, rank // 2 * 2 + 1),
            "replicate": (rank % 2, rank % 2 + 2),
        }


@pytest.mark.parametrize(("fused", "reductions"), [(True, 4), (False, 6)])
@pytest.mark.parametrize("size", [2, 4])
def test_a_tensor_parallel_layer_reduces_its_hidden_states_four_times_or_six(fused, reductions, size):
    for profile in run(programs.tensor_parallel, size, fused):
        bus = 2 * (size - 1) * reductions * HIDDEN // size
        assert profile.communication.by_group_and_kind() == {
            ("tp", size, "all-reduce"): Volume(reductions, reductions * HIDDEN, bus)
        }


def test_stages_of_a_pipeline_send_activations_forward_and_gradients_back():
    first, middle, *_, last = run(programs.pipeline, 4)
    micro = BATCH * WIDTH * FLOAT
    once = Volume(MICROBATCHES, MICROBATCHES * micro, MICROBATCHES * micro)
    assert first.communication.by_kind() == last.communication.by_kind() == {"send": once, "recv": once}
    assert middle.communication.by_kind() == {"send": once + once, "recv": once + once}


def test_tokens_go_to_their_experts_and_back_and_so_do_their_gradients():
    splits = [[1, 2], [3, 5]]
    for rank, profile in enumerate(run(programs.experts, 2, splits)):
        sent = sum(splits[rank]) * WIDTH * FLOAT
        received = sum(row[rank] for row in splits) * WIDTH * FLOAT
        payload = 2 * (sent + received)  # there and back, forward and backward
        assert profile.communication.by_kind() == {"all-to-all": Volume(4, payload, payload // 2)}


@pytest.mark.parametrize(
    ("program", "arguments"),
    [(programs.fsdp, ()), (programs.tensor_parallel, (False,)), (programs.experts, ([[1, 2], [3, 5]],))],
)
def test_one_rank_alone_with_the_fake_process_group_counts_what_it_counts_among_others(program, arguments):
    for among, alone in zip(run(program, 2, *arguments), run(program, 2, *arguments, fake=True), strict=True):
        real, simulated = (each[0] if isinstance(each, tuple) else each for each in (among, alone))
        assert simulated.communication.records == real.communication.records
        assert simulated.groups == real.groups
        assert simulated.by_module_and_operator().items() <= real.by_module_and_operator().items()
        # gloo reduces all, and copies the part of this rank: aten.split and aten.copy_
        assert (simulated.macs, simulated.arith) == (real.macs, real.arith)


def test_a_dry_run_counts_the_same():
    (real, _), *_ = run(programs.fsdp, 2)
    (dry, _), *_ = run(programs.fsdp, 2, 1, True, fake=True)
    assert dry.communication.records == real.communication.records
