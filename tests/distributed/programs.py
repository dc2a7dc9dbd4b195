"""Programs that each rank runs, and counts: data, tensor, pipeline and expert parallel, sharded and replicated."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn
from torch.distributed import _functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from opcount import OpCounter, Profile

BATCH, SEQUENCE, WIDTH, HEADS, LAYERS, MICROBATCHES = 2, 4, 16, 4, 3, 4


class Attention(nn.Module):
    """Attention with one product for queries, keys and values, or with three."""

    def __init__(self, fused: bool, heads: int) -> None:
        super().__init__()
        self.heads = heads
        names = ["qkv"] if fused else ["q", "k", "v"]
        self.inputs = nn.ModuleDict({name: nn.Linear(WIDTH, 3 * WIDTH // len(names)) for name in names})
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [each(x) for each in self.inputs.values()]
        q, k, v = parts if len(parts) == 3 else parts[0].chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A layer of a transformer."""

    def __init__(self, fused: bool = True, heads: int = HEADS) -> None:
        super().__init__()
        self.attention = Attention(fused, heads)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        return x + self.down(torch.relu(self.up(x)))


def blocks() -> nn.Sequential:
    """Return some layers."""
    return nn.Sequential(*(Block() for _ in range(LAYERS)))


def hidden() -> torch.Tensor:
    """Return what goes into a layer."""
    return torch.randn(BATCH, SEQUENCE, WIDTH)


def step(model: nn.Module, counter: OpCounter | None = None) -> Profile:
    """Count a training step."""
    optimizer = torch.optim.AdamW(model.parameters())
    with counter or OpCounter(model) as c:
        model(hidden()).square().sum().backward()
        optimizer.step()
    return c.profile


def ddp(rank: int, size: int) -> Profile:
    """Count a step of replicas."""
    return step(nn.parallel.DistributedDataParallel(blocks()))


def fsdp(rank: int, size: int, replicas: int = 1, dry_run: bool = False) -> tuple[Profile, Any]:
    """Count a step of a model whose layers are sharded, in replicas; return PyTorch's own count of collectives, too."""
    shape, names = (size,), ("shard",)
    if replicas > 1:
        shape, names = (replicas, size // replicas), ("replicate", "shard")
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    model = blocks()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    profile = step(model, OpCounter(model, dry_run=dry_run))
    if dry_run:  # FSDP keeps buffers that it made there
        return profile, None
    with CommDebugMode() as theirs:
        model(hidden()).square().sum().backward()
    return profile, {name: _plain(row) for name, row in theirs.comm_module_counts.items()}


def _plain(row: Any) -> dict[str, dict[str, int]]:
    return {phase: {str(op): count for op, count in row[phase].items()} for phase in ("forward", "backward")}


def tensor_parallel(rank: int, size: int, fused: bool) -> Profile:
    """Count forward and backward of a layer under the plain plan, columns before rows."""
    mesh = init_device_mesh("cpu", (size,), mesh_dim_names=("tp",))
    layer = Block(fused, HEADS // size)
    columns = [f"attention.inputs.{name}" for name in layer.attention.inputs] + ["up"]
    plan = {**{name: ColwiseParallel() for name in columns}, "attention.out": RowwiseParallel()}
    parallelize_module(layer, mesh, {**plan, "down": RowwiseParallel()})
    with OpCounter(layer) as c:
        layer(hidden().requires_grad_()).square().sum().backward()
    return c.profile


def pipeline(rank: int, size: int) -> Profile:
    """Count a step of a pipeline, of one layer in each stage."""
    layer = nn.Linear(WIDTH, WIDTH)
    stage = PipelineStage(layer, rank, size, torch.device("cpu"))
    schedule = Schedule1F1B(stage, MICROBATCHES, loss_fn=lambda out, _: out.square().sum())
    batch = torch.randn(MICROBATCHES * BATCH, WIDTH)

    def run() -> None:
        if rank == 0:
            schedule.step(batch)
        elif rank == size - 1:
            schedule.step(target=batch)
        else:
            schedule.step()

    run()  # the ranks tell each other the shapes
    with OpCounter(layer) as c:
        run()
    return c.profile


def experts(rank: int, size: int, splits: list[list[int]]) -> Profile:
    """Count the dispatch of tokens to experts and the way back; ``splits[i][j]`` tokens go from rank i to rank j."""
    sent, received = splits[rank], [row[rank] for row in splits]
    expert = nn.Linear(WIDTH, WIDTH)
    tokens = torch.randn(sum(sent), WIDTH, requires_grad=True)
    group = distributed.group.WORLD
    with OpCounter(expert) as c:
        routed = functional.all_to_all_single_autograd(tokens, received, sent, group)
        back = functional.all_to_all_single_autograd(expert(routed), sent, received, group)
        back.square().sum().backward()
    return c.profile
