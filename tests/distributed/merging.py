"""Programs of ranks that merge their counts."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from opcount import OpCounter, Profile
from opcount.distributed import gather
from opcount.errors import RankError
from tests.distributed import programs

WIDTH = programs.WIDTH


def uneven(rank: int, size: int) -> dict[int, Profile]:
    """Merge replicas of which each has one sample more than the one before."""
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)))
    with OpCounter(model) as c:
        model(torch.randn(rank + 1, WIDTH)).sum().backward()
    first, again = gather(c), gather(c.profile)
    assert first.profiles == again.profiles
    return first.profiles


def stages(rank: int, size: int) -> dict[int, Profile]:
    """Merge the stages of a pipeline."""
    return gather(programs.pipeline(rank, size)).profiles


def norms(rank: int, size: int) -> dict[int, Profile]:
    """Merge a tensor-parallel layer behind a norm that each rank runs whole."""
    mesh = init_device_mesh("cpu", (size,), mesh_dim_names=("tp",))
    model = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH))
    parallelize_module(model, mesh, {"1": ColwiseParallel(), "2": RowwiseParallel()})
    with OpCounter(model) as c:
        model(torch.randn(3, WIDTH))
    return gather(c, mesh.get_group("tp")).profiles


def sampled(rank: int, size: int) -> tuple[int, int, str]:
    """Merge loops of which some steps are counted."""
    counter = OpCounter(every=2)
    for _ in range(5):
        with counter:
            torch.ones(2, 3) @ torch.ones(3, 4)
    whole = gather(counter).merged
    return whole.macs, whole.extrapolated().macs, whole.steps.verdict()


def absent(rank: int, size: int) -> tuple[str, tuple[int, ...], list[int]] | None:
    """Merge without the last rank, which does something else."""
    profile = Profile()
    if rank == size - 1:
        time.sleep(3)
        return None
    try:
        gather(profile, timeout=1)
    except RankError as error:
        return str(error), error.missing, list(error.ranks.profiles)
    return None


def alone(rank: int, size: int) -> dict[int, Profile]:
    """Merge on a fake process group, where nobody else is."""
    return gather(Profile()).profiles
