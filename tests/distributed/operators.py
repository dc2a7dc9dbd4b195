"""Every collective of ``torch.distributed`` on the fake process group, each counted alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import _functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh

from opcount import OpCounter, Profile

ROWS, WIDTH = 8, 4


def calls(size: int) -> dict[str, Any]:
    """Return functions that run one collective each, by name, on tensors of `ROWS` x `WIDTH` float32."""
    x, part = torch.ones(ROWS, WIDTH), torch.ones(ROWS // size, WIDTH)
    whole = torch.ones(size * ROWS, WIDTH)
    each, parts = [torch.ones(ROWS, WIDTH) for _ in range(size)], [part.clone() for _ in range(size)]
    world, root, other = dist.group.WORLD, dist.get_rank() == 0, (dist.get_rank() + 1) % size
    rows = [1] * (size - 1) + [ROWS - size + 1]

    def batch() -> None:
        dist.batch_isend_irecv([dist.P2POp(dist.isend, x, other), dist.P2POp(dist.irecv, part, other)])

    def coalesced() -> None:
        with dist._coalescing_manager():
            dist.all_gather_into_tensor(whole, x)
            dist.all_gather_into_tensor(whole, x)

    return {
        "all_reduce": lambda: dist.all_reduce(x),
        "all_reduce of a slice": lambda: dist.all_reduce(x[:2]),
        "all_reduce coalesced": lambda: dist.all_reduce_coalesced([x, part]),
        "all_gather": lambda: dist.all_gather(each, x),
        "all_gather_into_tensor": lambda: dist.all_gather_into_tensor(whole, x),
        "all_gather_into_tensor coalesced": coalesced,
        "reduce_scatter": lambda: dist.reduce_scatter(part, parts),
        "reduce_scatter_tensor": lambda: dist.reduce_scatter_tensor(part, x),
        "all_to_all": lambda: dist.all_to_all(parts, [p.clone() for p in parts]),
        "all_to_all_single": lambda: dist.all_to_all_single(torch.empty_like(x), x),
        "all_to_all_single uneven": lambda: dist.all_to_all_single(torch.empty_like(x), x, rows, rows),
        "broadcast": lambda: dist.broadcast(x, 0),
        "reduce": lambda: dist.reduce(x, 0),
        "gather": lambda: dist.gather(x, each if root else None, 0),
        "scatter": lambda: dist.scatter(x, each if root else None, 0),
        "send": lambda: dist.send(x, other),
        "isend": lambda: dist.isend(x, other),
        "recv": lambda: dist.recv(x, other),
        "irecv": lambda: dist.irecv(x, other),
        "batch_isend_irecv": batch,
        "barrier": dist.barrier,
        "functional all_reduce": lambda: functional.all_reduce(x, "sum", world),
        "functional all_gather": lambda: functional.all_gather_tensor(x, 0, world),
        "functional reduce_scatter": lambda: functional.reduce_scatter_tensor(x, "sum", 0, world),
        "functional all_to_all": lambda: functional.all_to_all_single(x, None, None, world),
        "functional broadcast": lambda: functional.broadcast(x, 0, world),
    }


def each(rank: int, size: int, grad: str = "no_grad") -> dict[str, Profile]:
    """Count each collective alone, in a grad mode."""
    profiles = {}
    for name, call in calls(size).items():
        with getattr(torch, grad)(), OpCounter(strict=True) as c:
            call()
        profiles[name] = c.profile
    return profiles


def names(rank: int, size: int) -> list[dict[str, tuple[int, ...]]]:
    """Return the groups of counts: of one that no mesh knows, of meshes with names and without."""
    found = []

    def count(group: Any) -> None:
        with OpCounter() as c:
            dist.all_reduce(torch.ones(2), group=group)
        found.append(c.profile.groups)

    count(None)
    pair = dist.new_group([0, 1], group_desc="pair")
    count(pair if rank < 2 else None)
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("dp", "tp"))
    count(mesh.get_group("dp"))
    count(mesh.get_group("tp"))
    whole = init_device_mesh("cpu", (size,), mesh_dim_names=("world",))
    count(None)
    del whole
    with OpCounter() as c:
        for dim in ("dp", "tp"):
            for _ in range(2):
                dist.all_reduce(torch.ones(2), group=mesh.get_group(dim))
    found.append(c.profile.groups)
    return found
