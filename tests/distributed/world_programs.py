"""Training steps under each kind of parallelism, as plain programs of ``torch.distributed``."""

from __future__ import annotations

import os
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn import functional
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from opcount import OpCounter

WIDTH, HIDDEN, TOKENS = 24, 64, 6


class Layer(nn.Module):
    """Two products and an activation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(x).relu())


class Exchange(torch.autograd.Function):
    """Gives each rank its part of the rows; gradients go back the same way."""

    @staticmethod
    def forward(_ctx: object, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        dist.all_to_all_single(out, x.contiguous())
        return out

    @staticmethod
    def backward(_ctx: object, grad: torch.Tensor) -> torch.Tensor:
        return Exchange.forward(None, grad)


class Experts(nn.Module):
    """Exchanges tokens so that each rank runs its own expert on those of all ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.expert = Layer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Exchange.apply(self.expert(Exchange.apply(x)))


def layers(kind: type[nn.Module] = Layer) -> nn.Sequential:
    return nn.Sequential(kind(), kind(), kind())


def train(model: nn.Module, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        model(torch.randn(TOKENS * 4, WIDTH)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def ddp() -> None:
    train(DistributedDataParallel(layers()))


def ddp_in_buckets() -> None:
    """Accumulate gradients, and reduce them in several buckets."""
    model = DistributedDataParallel(layers(), bucket_cap_mb=0.01)
    with model.no_sync():
        model(torch.randn(TOKENS, WIDTH)).sum().backward()
    train(model, 3)


def shard(model: nn.Module, mesh: object) -> nn.Module:
    for layer in model.children():
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fsdp() -> None:
    train(shard(layers(), init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("dp",))))


def fsdp_of_uneven_parts() -> None:
    """Have so few tokens that the copies of gloo are what is most, and parts that are padded."""
    model = shard(nn.Sequential(*layers(), nn.Linear(WIDTH, 9)), init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.randn(TOKENS, WIDTH)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def counts() -> None:
    """Let all ranks know a number of each, by collectives with handles and by several at once."""
    world = dist.get_world_size()
    everyone = [torch.zeros(1, dtype=torch.long) for _ in range(world)]
    dist.all_gather(everyone, torch.tensor([TOKENS]), async_op=True).wait()
    assert sum(map(int, everyone)) == world * TOKENS
    tokens = dist.all_reduce(torch.tensor(TOKENS), async_op=True).get_future().wait()[0]
    others = torch.empty(world, dtype=torch.long)
    dist.all_to_all_single(others, torch.full((world,), 3))
    assert (int(tokens), others.tolist()) == (world * TOKENS, [3] * world)
    with dist.distributed_c10d._coalescing_manager():
        for size in (3, 5):
            dist.all_reduce(torch.ones(size))


def hsdp() -> None:
    train(shard(layers(), init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("copies", "dp"))))


PLAN = {"up": ColwiseParallel(), "down": RowwiseParallel()}


def tensor_parallel() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",))
    model = layers()
    for layer in model:
        parallelize_module(layer, mesh, PLAN)
    train(model)


def tensor_parallel_and_fsdp() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("dp", "tp"))
    model = layers()
    for layer in model:
        parallelize_module(layer, mesh["tp"], PLAN)
    train(shard(model, mesh["dp"]))


def pipeline() -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    batch = torch.randn(TOKENS * 4, WIDTH)
    part = torch.empty(TOKENS, WIDTH, requires_grad=True)
    stage = PipelineStage(layers(), rank, world, torch.device("cpu"), input_args=part, output_args=part)
    schedule = Schedule1F1B(stage, 4, loss_fn=lambda out, target: (out - target).square().sum())
    optimizer = torch.optim.AdamW(stage.submod.parameters())
    for _ in range(2):
        if rank == 0:
            schedule.step(batch)
        elif rank == world - 1:
            schedule.step(target=batch, losses=[])
        else:
            schedule.step()
        optimizer.step()
        optimizer.zero_grad()


def experts() -> None:
    train(layers(Experts))


def contrastive() -> None:
    """Compare outputs of all ranks, whose gradients come back by what a backend has for it."""
    assert dist.get_backend() is dist.Backend.GLOO
    out = nn.Linear(WIDTH, WIDTH)(torch.randn(TOKENS, WIDTH))
    everyone = torch.cat(functional.all_gather(out))
    (out @ everyone.t()).square().sum().backward()


PROGRAMS = {
    each.__name__: each
    for each in (
        ddp,
        ddp_in_buckets,
        fsdp,
        fsdp_of_uneven_parts,
        counts,
        hsdp,
        tensor_parallel,
        tensor_parallel_and_fsdp,
        pipeline,
        experts,
        contrastive,
    )
}

RUNS = 3
"""Runs of each program: in some a thread of gloo holds tensors for longer than in others."""


def main(folder: str, rank: int, world: int) -> None:
    """Be one real rank: store the profile of every run of every program."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world))
    for name, program in PROGRAMS.items():
        for run in range(RUNS):
            with OpCounter(memory=True) as counter:
                store = f"file://{folder}/{name}.{run}"
                dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
                program()
            counter.profile.save(f"{folder}/{name}.{rank}.{run}.json")
            dist.barrier()
            dist.destroy_process_group()
