"""Collectives, sends and receives: the bytes of their payload. What is added up on the way is communication.

The payload, or buffer, is what NCCL's tests call the size of a collective: of an all-gather all that is gathered, of a
reduce-scatter all that is reduced, of an all-to-all what this rank sends. It is the bytes of the tensors themselves:
the rest of a storage that a slice lies in is no part of it. https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.distributed import process_group as group_of
from opcount.cost import CollectiveCost
from opcount.registry import OperatorNames, builtin

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from opcount.registry import Pricing

KINDS: dict[str, str] = {}
"""The kind of each collective, by the name of its operator without the overload."""

FAMILY = __name__.rpartition(".")[2]

c10d, functional, autograd, old = map(
    OperatorNames, ("c10d", "_c10d_functional", "_c10d_functional_autograd", "c10d_functional")
)
dtensor, symm_mem = map(OperatorNames, ("_dtensor", "symm_mem"))


def collective(kind: str, *targets: str) -> Callable[[Callable[..., CollectiveCost]], Pricing]:
    """Register the formula of collectives of one kind."""

    def register(price: Callable[..., CollectiveCost]) -> Pricing:
        KINDS.update(dict.fromkeys(targets, kind))
        return builtin(*targets)(price)

    return register


def kind_of(operator: str) -> str:
    """Return the kind of a collective by the name of its overload.

    Example:
        >>> kind_of("c10d.allreduce_.default"), kind_of("_c10d_functional.all_reduce_.default")
        ('all-reduce', 'all-reduce')
    """
    packet = operator.rpartition(".")[0]
    return KINDS.get(packet) or KINDS[packet.removesuffix("_")]


def size(value: Any) -> Any:
    """Return the bytes of a tensor, or of all tensors in lists."""
    if isinstance(value, (list, tuple)):
        return sum(map(size, value))
    if not isinstance(value, torch.Tensor):
        return 0
    if value.layout is torch.strided:
        return value.numel() * value.element_size()
    with dispatch_disabled():
        return size((value._indices(), value._values())) if value.layout is torch.sparse_coo else size(value.values())


@collective("all-reduce", c10d.allreduce_, c10d.allreduce_coalesced_)
def all_reduce(tensors: list[Tensor]) -> CollectiveCost:
    """The tensors."""
    return CollectiveCost(size(tensors))


@collective(
    "all-reduce",
    functional.all_reduce, functional.all_reduce_coalesced,
    old.all_reduce, old.all_reduce_coalesced,
    symm_mem.one_shot_all_reduce, symm_mem.one_shot_all_reduce_out,
    symm_mem.one_shot_all_reduce_copy, symm_mem.one_shot_all_reduce_copy_out,
    symm_mem.two_shot_all_reduce_, symm_mem.two_shot_all_reduce_out,
    symm_mem.multimem_all_reduce_, symm_mem.multimem_one_shot_all_reduce, symm_mem.multimem_one_shot_all_reduce_out,
)  # fmt: skip
def all_reduce_result(out: Any) -> CollectiveCost:
    """The result."""
    return CollectiveCost(size(out))


@collective("all-gather", c10d.allgather_)
def all_gather(output_tensors: list[list[Tensor]]) -> CollectiveCost:
    """All that is gathered."""
    return CollectiveCost(size(output_tensors))


@collective("all-gather", c10d.allgather_coalesced_)
def all_gather_coalesced(output_lists: list[list[Tensor]]) -> CollectiveCost:
    """All that is gathered."""
    return CollectiveCost(size(output_lists))


@collective("all-gather", c10d._allgather_base_)
def all_gather_single(output_tensor: Tensor) -> CollectiveCost:
    """All that is gathered."""
    return CollectiveCost(size(output_tensor))


@collective("all-gather", c10d.allgather_into_tensor_coalesced_)
def all_gather_single_coalesced(outputs: list[Tensor]) -> CollectiveCost:
    """All that is gathered."""
    return CollectiveCost(size(outputs))


@collective(
    "all-gather",
    functional.all_gather_into_tensor, functional.all_gather_into_tensor_out,
    functional.all_gather_into_tensor_coalesced, autograd.all_gather_into_tensor,
    old.all_gather_into_tensor, old.all_gather_into_tensor_coalesced,
    symm_mem.multimem_all_gather_out, symm_mem._low_contention_all_gather,
)  # fmt: skip
def all_gather_result(out: Any) -> CollectiveCost:
    """All that is gathered."""
    return CollectiveCost(size(out))


@collective("reduce-scatter", c10d.reduce_scatter_)
def reduce_scatter(input_tensors: list[list[Tensor]]) -> CollectiveCost:
    """All that is reduced."""
    return CollectiveCost(size(input_tensors))


@collective("reduce-scatter", c10d._reduce_scatter_base_)
def reduce_scatter_single(input_tensor: Tensor) -> CollectiveCost:
    """All that is reduced."""
    return CollectiveCost(size(input_tensor))


@collective(
    "reduce-scatter",
    c10d.reduce_scatter_tensor_coalesced_, functional.reduce_scatter_tensor_coalesced,
    old.reduce_scatter_tensor_coalesced,
)  # fmt: skip
def reduce_scatter_coalesced(inputs: list[Tensor]) -> CollectiveCost:
    """All that is reduced."""
    return CollectiveCost(size(inputs))


@collective(
    "reduce-scatter",
    functional.reduce_scatter_tensor, functional.reduce_scatter_tensor_out, autograd.reduce_scatter_tensor,
    old.reduce_scatter_tensor, symm_mem.reduce_scatter_out, symm_mem.nccl_reduce_scatter_offset,
)  # fmt: skip
def reduce_scatter_input(input: Tensor) -> CollectiveCost:
    """All that is reduced."""
    return CollectiveCost(size(input))


@collective("reduce-scatter", symm_mem._low_contention_reduce_scatter)
def reduce_scatter_tensor(tensor: Tensor) -> CollectiveCost:
    """All that is reduced."""
    return CollectiveCost(size(tensor))


@collective("all-to-all", c10d.alltoall_)
def all_to_all(input_tensors: list[Tensor]) -> CollectiveCost:
    """All that this rank sends, its own part included."""
    return CollectiveCost(size(input_tensors))


@collective(
    "all-to-all",
    c10d.alltoall_base_, functional.all_to_all_single, autograd.all_to_all_single, old.all_to_all_single,
    dtensor.shard_dim_alltoall, symm_mem.nvshmem_all_to_all,
    symm_mem.all_to_all_vdev, symm_mem.all_to_all_vdev_2d, symm_mem.all_to_all_vdev_2d_offset,
)  # fmt: skip
def all_to_all_single(input: Tensor) -> CollectiveCost:
    """All that this rank sends, its own part included."""
    return CollectiveCost(size(input))


@collective("broadcast", c10d.broadcast_)
def broadcast(tensors: list[Tensor]) -> CollectiveCost:
    """The tensors."""
    return CollectiveCost(size(tensors))


@collective("broadcast", functional.broadcast, old.broadcast, symm_mem.nvshmem_broadcast)
def broadcast_result(out: Any) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(out))


@collective("reduce", c10d.reduce_)
def reduce(tensors: list[Tensor]) -> CollectiveCost:
    """The tensors."""
    return CollectiveCost(size(tensors))


@collective("reduce", symm_mem.multimem_one_shot_reduce_out)
def reduce_input(input: Tensor) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(input))


@collective("reduce", symm_mem.tile_reduce)
def reduce_tile(in_tile: Tensor) -> CollectiveCost:
    """The tile that is summed over the ranks."""
    return CollectiveCost(size(in_tile))


@collective("reduce", symm_mem.multi_root_tile_reduce)
def reduce_tiles(in_tiles: list[Tensor]) -> CollectiveCost:
    """The tiles that are summed over the ranks, each for a rank of its own."""
    return CollectiveCost(size(in_tiles))


@collective("gather", c10d.gather_)
def gather(input_tensors: list[Tensor], process_group: Any) -> CollectiveCost:
    """All that the root gathers: what this rank gives, for each rank."""
    return CollectiveCost(size(input_tensors) * group_of(process_group).size())


@collective("scatter", c10d.scatter_)
def scatter(output_tensors: list[Tensor], process_group: Any) -> CollectiveCost:
    """All that the root scatters: what this rank gets, for each rank."""
    return CollectiveCost(size(output_tensors) * group_of(process_group).size())


@collective("send", c10d.send)
def send(tensors: list[Tensor]) -> CollectiveCost:
    """The tensors."""
    return CollectiveCost(size(tensors))


@collective("recv", c10d.recv_, c10d.recv_any_source_)
def receive(tensors: list[Tensor]) -> CollectiveCost:
    """The tensors."""
    return CollectiveCost(size(tensors))


@collective(
    "send",
    symm_mem.nccl_put, symm_mem.nccl_put_with_signal, symm_mem.nvshmem_put, symm_mem.nvshmem_put_with_signal,
)  # fmt: skip
def put(tensor: Tensor) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(tensor))


@collective("recv", symm_mem.nccl_get, symm_mem.nvshmem_get)
def get(tensor: Tensor) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(tensor))


@collective("send", symm_mem.nccl_put_signal)
def put_source(src: Tensor) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(src))


@collective("send", functional.isend, old.isend)
def send_result(out: Any) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(out))


@collective("recv", functional.irecv, old.irecv)
def receive_result(out: Any) -> CollectiveCost:
    """The tensor."""
    return CollectiveCost(size(out))


@collective("send and recv", functional.batch_p2p_ops, old.batch_p2p_ops)
def batch(tensors: list[Tensor]) -> CollectiveCost:
    """The tensors."""
    return CollectiveCost(size(tensors))


@collective("barrier", c10d.barrier, c10d.monitored_barrier_)
def barrier() -> CollectiveCost:
    """Nothing that counts: the ranks wait for each other."""
    return CollectiveCost(0)


@collective("all-gather", symm_mem.fused_all_gather_matmul, symm_mem.fused_all_gather_scaled_matmul)
def all_gather_matmul(out: Any, A: Tensor, Bs: list[Tensor], group_name: Any) -> CollectiveCost:
    """All that is gathered; then ``gathered @ B`` for each B."""
    products = out[1]
    macs = sum(product.numel() * b.shape[0] for product, b in zip(products, Bs, strict=True))
    gathered = size(A) * group_of(group_name).size()
    return CollectiveCost(gathered, macs, sum(product.numel() for product in products))


@collective(
    "reduce-scatter", symm_mem.fused_matmul_reduce_scatter, symm_mem.fused_scaled_matmul_reduce_scatter
)  # fmt: skip
def matmul_reduce_scatter(out: Tensor, A: Tensor, B: Tensor) -> CollectiveCost:
    """``A @ B``, all of which is reduced."""
    elements = A.numel() // A.shape[-1] * B.shape[-1] if A.numel() else 0
    return CollectiveCost(elements * out.element_size(), elements * B.shape[0], elements)
