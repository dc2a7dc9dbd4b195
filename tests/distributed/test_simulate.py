"""One process as a rank of a world that is not there: the same numbers as the rank of a real one."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from importlib import import_module
from itertools import product

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn import functional
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from opcount import OpCounter, Profile
from opcount.distributed import gather, simulate
from opcount.errors import CounterStateError, DryRunError, InputError
from tests.distributed.ranks import CONTEXT
from tests.distributed.world_programs import HIDDEN, PROGRAMS, RUNS, TOKENS, WIDTH, layers, main

LAYER = 2 * WIDTH * HIDDEN
"""Elements of the weights of a layer."""
STEPS, LAYERS = 2, 3


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def real(request, tmp_path_factory):
    """Return the profiles of real processes, one a run, by program and rank."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    ranks = [CONTEXT.Process(target=main, args=(str(folder), rank, world)) for rank in range(world)]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(900)
        assert [rank.exitcode for rank in ranks] == [0] * world
    finally:
        for rank in ranks:
            rank.kill()
    return {
        (name, rank): [Profile.from_json((folder / f"{name}.{rank}.{run}.json").read_text()) for run in range(RUNS)]
        for name, rank in product(PROGRAMS, range(world))
    }


def rows_of(profile):
    """Return arithmetic, bytes and payload by module, operator, phase, dtype and group; calls where there is any."""
    sums = {}
    for r in profile.records:
        sent = (r.collective.kind, r.collective.ranks) if r.collective else ()
        payload = r.collective.buffer_bytes if r.collective else 0
        numbers = r.calls, r.cost.macs, r.cost.arith, r.bytes_read, r.bytes_written, payload
        if not any(numbers[1:]):
            continue
        place = (r.path, r.operator, r.phase, r.dtype, sent)
        sums[place] = [a + b for a, b in zip(sums.get(place, (0,) * len(numbers)), numbers, strict=True)]
    return sums


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.distributed.nn.functional:FutureWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_simulated_rank_counts_what_a_real_one_counts(real, name):
    world = max(rank for _, rank in real) + 1
    for rank in range(world):
        with simulate(world=world, rank=rank) as counter:
            dist.init_process_group("gloo")
            PROGRAMS[name]()
        runs = real[name, rank]
        assert rows_of(counter.profile) == rows_of(runs[0])
        peaks = [profile.memory.peak for profile in runs]
        assert min(peaks) <= counter.memory.peak <= max(peaks)


@pytest.mark.parametrize("backend", [None, "cpu:gloo,cuda:nccl", "fake"])
def test_a_program_that_names_no_backend_or_several_is_answered_as_by_a_real_group(backend):
    with simulate(world=2):
        dist.init_process_group(*[] if backend is None else [backend])
        assert dist.get_backend() == (backend or "undefined")


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
        dist.scatter_object_list(scatter_object_output_list=own, scatter_object_input_list=["a", "b", "c"])
    assert (everyone, own) == ([{"loss": 1}] * 3, ["c"])


def test_a_known_number_is_added_up_as_if_all_ranks_had_it():
    with simulate(world=6, rank=2):
        dist.init_process_group()
        tokens, most = torch.tensor(32), torch.tensor(7)
        dist.all_reduce(tokens)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        pair = torch.tensor(32)
        dist.all_reduce(pair, group=dist.new_group([2, 3]))
        assert (tokens.item(), most.item(), pair.item()) == (6 * 32, 7, 2 * 32)


@pytest.mark.parametrize("receive", [dist.recv, dist.scatter])
def test_what_only_another_rank_knows_is_not_taken_for_what_was_there(receive):
    def run():
        dist.init_process_group()
        size = torch.zeros(1, dtype=torch.long)
        receive(size, src=0)
        size.tolist()

    with pytest.raises(DryRunError, match="needs the values"), simulate(world=2, rank=1):
        run()


def test_gloo_copies_what_it_scatters_and_nccl_does_not():
    def peak(backend):
        with simulate(world=4) as counter:
            dist.init_process_group(backend)
            out, whole = torch.empty(1000), torch.empty(4000)
            getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)(out, whole)
        return counter.memory.peak

    assert peak("nccl") == 4 * 5000
    assert peak("gloo") == 4 * 9000


@pytest.mark.filterwarnings("ignore:torch.distributed.nn.functional:FutureWarning")
@pytest.mark.parametrize(("backend", "kinds"), [("gloo", {"scatter"}), ("nccl", {"reduce-scatter"})])
def test_a_program_finds_the_backend_that_it_named_and_gradients_come_back_by_its_collectives(backend, kinds):
    with simulate(world=4) as counter:
        dist.init_process_group(backend)
        assert dist.get_backend() == backend
        assert dist.get_backend(dist.new_group([0, 1], backend="mpi")) == "mpi"
        assert list(gather(counter).profiles) == [0]
        x = torch.randn(3, 5, requires_grad=True)
        torch.cat(functional.all_gather(x)).sum().backward()
    assert set(counter.profile.communication.by_kind()) == {"all-gather", *kinds}


def test_checkpoints_are_left_out_with_the_line():
    def store(folder):
        with simulate(world=4) as counter:
            dist.init_process_group()
            model = fully_shard(nn.Linear(8, 8))
            torch.distributed.checkpoint.save({"model": model.state_dict()}, checkpoint_id=folder)
        return counter

    with pytest.warns(UserWarning, match=r"left out torch.distributed.checkpoint.save\(\), at .*test_simulate.py:\d+"):
        assert not store("nowhere").communication


def test_a_group_is_split_without_a_device():
    with simulate(world=4, rank=2) as counter:
        dist.init_process_group("nccl", device_id=torch.device("cuda", 2))
        part = dist.split_group(split_ranks=[[0, 1], [2, 3]], group_desc="half")
        dist.all_reduce(torch.ones(4), group=part)
        assert dist.split_group(split_ranks=[[0, 1]]) is None
    assert list(counter.communication.groups.values()) == [(2, 3)]


def test_a_hook_of_ddp_stays_when_buckets_are_built_again():
    with simulate(world=4) as counter:
        dist.init_process_group()
        model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), bucket_cap_mb=1e-4)
        model.register_comm_hook(None, bf16_compress_hook)
        for _ in range(3):
            model(torch.randn(2, 8)).sum().backward()
    calls, payload, _ = counter.communication.by_phase()["backward"]
    assert (calls, payload) == (1 + 2 * 2, 3 * 2 * 2 * (8 * 8 + 8))


def test_ranks_that_join_uneven_inputs_and_meshes_of_replicas_reduce_as_others():
    def volume(joined, mesh):
        with simulate(world=4) as counter:
            dist.init_process_group()
            where = {"device_mesh": init_device_mesh("cuda", (4,))} if mesh else {}
            model = nn.parallel.DistributedDataParallel(nn.Linear(8, 8), **where)
            with model.join() if joined else nullcontext():
                model(torch.randn(2, 8)).sum().backward()
        return counter.communication.by_phase()["backward"]

    payload = 4 * (8 * 8 + 8)
    assert volume(joined=True, mesh=False) == (1, payload, 2 * 3 * payload // 4)
    assert volume(joined=False, mesh=True) == (1, payload, 2 * 3 * payload // 4)


def test_what_another_rank_would_send_is_refused_with_its_number():
    def receive():
        dist.init_process_group()
        dist.recv_object_list([None], src=1)

    with (
        pytest.raises(DryRunError, match=r"rank 2 waits for the objects that rank 1 sends.* at .*\.py:\d+"),
        simulate(world=3, rank=2),
    ):
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


def test_an_older_pytorch_is_refused(monkeypatch):
    monkeypatch.setattr(import_module("opcount.distributed.simulate"), "ENDS_COLLECTIVES", False)
    with pytest.raises(CounterStateError, match=r"expected PyTorch 2\.3"), simulate(world=2):
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
