"""One process as a rank of a world that is not there: the same numbers as the rank of a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from opcount import OpCounter, Profile
from opcount.distributed import simulate
from opcount.errors import CounterStateError, DryRunError, InputError
from tests.distributed.world_programs import HIDDEN, PROGRAMS, TOKENS, WIDTH, layers

LAYER = 2 * WIDTH * HIDDEN
"""Elements of the weights of a layer."""
STEPS, LAYERS = 2, 3


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def real(request, tmp_path_factory):
    """Return the profiles of real processes by program and rank."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.distributed.world_programs", str(folder)]
    ranks = [
        subprocess.Popen(command, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(world)})
        for rank in range(world)
    ]
    try:
        assert [rank.wait(400) for rank in ranks] == [0] * world
    finally:
        for rank in ranks:
            rank.kill()
    return {
        (name, rank): Profile.from_json((folder / f"{name}.{rank}.json").read_text())
        for name, rank in product(PROGRAMS, range(world))
    }


def rows_of(profile):
    """Return arithmetic, bytes and payload by module, operator, phase, dtype and group; calls where there is any.

    The copies by which gloo reduces and scatters are its own.
    """
    sums = {}
    for r in profile.records:
        sent = (r.collective.kind, r.collective.ranks) if r.collective else ()
        payload = r.collective.buffer_bytes if r.collective else 0
        numbers = r.calls, r.cost.macs, r.cost.arith, r.bytes_read, r.bytes_written, payload
        if not any(numbers[1:]) or (r.operator, r.phase) == ("aten.copy_.default", "backward"):
            continue
        place = (r.path, r.operator, r.phase, r.dtype, sent)
        sums[place] = [a + b for a, b in zip(sums.get(place, (0,) * len(numbers)), numbers, strict=True)]
    return sums


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor:UserWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_simulated_rank_counts_what_a_real_one_counts(real, name):
    world = max(rank for _, rank in real) + 1
    for rank in range(world):
        with simulate(world=world, rank=rank) as counter:
            dist.init_process_group()
            PROGRAMS[name]()
        expected = real[name, rank]
        assert rows_of(counter.profile) == rows_of(expected)
        assert counter.memory.peak == expected.memory.peak


def test_sharded_data_parallelism_computes_the_whole_layer_and_keeps_its_part():
    world = 16
    with simulate(world=world, rank=3) as counter:
        dist.init_process_group("nccl")
        PROGRAMS["fsdp"]()
    # forward, gradients of weights, and gradients of inputs but for the first layer's, whose input needs none
    products = 3 * LAYERS * LAYER - WIDTH * HIDDEN
    assert counter.macs == STEPS * 4 * TOKENS * products


def test_tensor_parallelism_computes_its_part_of_each_layer():
    whole, part = (macs_of("tensor_parallel", world) for world in (1, 8))
    assert whole == 8 * part


def macs_of(name, world):
    with simulate(world=world) as counter:
        dist.init_process_group()
        PROGRAMS[name]()
    return counter.macs


def test_a_program_that_names_cuda_and_nccl_runs_on_fake_tensors_of_the_cpu():
    with simulate(world=16, rank=9) as counter:
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 8
        dist.init_process_group("nccl", device_id=torch.device("cuda", 1))
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        assert torch.cuda.current_device() == 1
        mesh = init_device_mesh("cuda", (2, 8), mesh_dim_names=("copies", "dp"))
        model = fully_shard(layers().cuda(), mesh=mesh)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.autocast("cuda", dtype=torch.bfloat16):
            x = torch.randn(5, WIDTH, device="cuda").to("cuda:1", non_blocking=True)
            loss = model(x).sum().to(0)
        loss.backward()
        torch.cuda.synchronize()
        dist.barrier(device_ids=[1])
        assert torch.cuda.max_memory_allocated() == 0
        generator = torch.Generator(device="cuda").manual_seed(1)
        assert isinstance(generator, torch.Generator)
        assert torch.randn(3, generator=generator, device="cuda").device.type == "cpu"
        assert x.device.type == "cpu"
        assert mesh.get_local_rank("dp") == 1
    assert counter.by_dtype()["bfloat16"].macs == 5 * (3 * LAYERS * LAYER - WIDTH * HIDDEN)


def test_cuda_facts_that_no_one_knows_are_refused_with_the_line():
    with pytest.raises(DryRunError, match=r"get_device_properties\(\).*test_simulate.py:\d+"), simulate(world=2):
        torch.cuda.get_device_properties(0)


def test_a_model_on_meta_needs_no_memory_until_it_is_made():
    with simulate(world=4) as counter:
        dist.init_process_group()
        with torch.device("meta"):
            model = nn.Linear(1000, 1000, bias=False)
        assert model.weight.is_meta
        fully_shard(model)
        model.to_empty(device="cuda")
    of_the_mesh = 4 * 4  # bytes of the ranks, while it is made
    assert counter.memory.peak == 4 * 1000 * 1000 // 4 + of_the_mesh


def test_objects_of_other_ranks_are_those_of_this_rank():
    with simulate(world=3, rank=2):
        dist.init_process_group()
        everyone = [None] * 3
        dist.all_gather_object(everyone, {"loss": 1})
        own = ["seed"]
        dist.broadcast_object_list(own, src=0)
    assert (everyone, own) == ([{"loss": 1}] * 3, ["seed"])


def test_a_known_number_is_added_up_as_if_all_ranks_had_it():
    with simulate(world=6, rank=2):
        dist.init_process_group()
        tokens, most = torch.tensor(32), torch.tensor(7)
        dist.all_reduce(tokens)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        pair = torch.tensor(32)
        dist.all_reduce(pair, group=dist.new_group([2, 3]))
        assert (tokens.item(), most.item(), pair.item()) == (6 * 32, 7, 2 * 32)


def test_what_another_rank_would_send_is_refused_with_its_number():
    def receive():
        dist.init_process_group()
        dist.recv_object_list([None], src=1)

    with pytest.raises(DryRunError, match="rank 2 waits for the objects that rank 1 sends"), simulate(world=3, rank=2):
        receive()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_everything_is_put_back_also_after_an_error(error):
    before = dict(os.environ), sys.excepthook, torch.cuda.is_available.__code__, dist.init_process_group.__code__

    def fail():
        dist.init_process_group("nccl")
        dist.new_group([0, 1], backend="nccl")
        raise error

    with pytest.raises(error), simulate(world=8):
        fail()
    after = dict(os.environ), sys.excepthook, torch.cuda.is_available.__code__, dist.init_process_group.__code__
    assert after == before
    assert not dist.is_initialized()


def test_a_world_is_entered_where_there_is_no_group_and_no_dry_run():
    with simulate(world=2):
        dist.init_process_group()
        with pytest.raises(CounterStateError, match="got one of 2 ranks"), simulate(world=2):
            pass
    with OpCounter(dry_run=True), pytest.raises(CounterStateError, match="dry run"), simulate(world=2):
        pass


@pytest.mark.parametrize("place", [{"world": 0}, {"world": 2, "rank": 2}, {"world": 2.0}, {"world": 2, "rank": -1}])
def test_a_place_outside_of_the_world_is_refused(place):
    with pytest.raises(InputError, match="simulate: expected"), simulate(**place):
        pass


def test_a_program_that_insists_on_another_world_is_refused():
    with pytest.raises(InputError, match=r"init_process_group\(world_size=4\)"), simulate(world=8):
        dist.init_process_group("gloo", rank=0, world_size=4)


def test_worlds_of_equal_meshes_follow_one_another():
    def step(extra):
        with simulate(world=4) as counter:
            dist.init_process_group()
            groups = [dist.new_group([0, 1]) for _ in range(extra)]
            PROGRAMS["tensor_parallel_and_fsdp"]()
            del groups
        return counter.macs

    assert step(0) == step(3)


def test_a_stage_that_is_told_no_shapes_takes_those_that_the_first_one_has_sent():
    def step(rank):
        with simulate(world=4, rank=rank) as counter:
            dist.init_process_group()
            stage = PipelineStage(layers(), rank, 4, torch.device("cuda"))
            batch = torch.randn(8, WIDTH)
            Schedule1F1B(stage, 4, loss_fn=nn.MSELoss()).step(*([] if rank else [batch]))
        return counter.macs

    with pytest.raises(DryRunError, match="stage 2 waits for the shapes that stage 1 sends"):
        step(2)
    # a batch of 8 forward and backward, and the forward of a microbatch of 2, by which the shapes are learnt
    assert step(0) == 8 * (3 * LAYERS * LAYER - WIDTH * HIDDEN) + 2 * LAYERS * LAYER
    with pytest.warns(UserWarning, match="stage 2 is taken to receive the shapes that stage 1 receives"):
        step(2)
